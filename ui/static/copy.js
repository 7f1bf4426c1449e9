// Copies a reply. Gradio hands in element, which stays while its content is drawn anew.
element.addEventListener('click', async (event) => {
  const button = event.target.closest('button[data-copy]');
  if (!button) return;
  const reply = button.closest('.hf-arm').querySelector('.hf-reply');
  let done = 'Copied';
  try {
    await navigator.clipboard.writeText(reply.textContent);
  } catch {
    // Browsers keep the clipboard from pages that come over plain HTTP; selected text can be copied.
    getSelection().selectAllChildren(reply);
    if (!document.execCommand('copy')) done = 'Selected';
  }
  button.textContent = done; button.setAttribute('aria-label', done);
  setTimeout(() => {
    button.textContent = 'Copy'; button.setAttribute('aria-label', button.dataset.copy);
  }, 2000);
});
