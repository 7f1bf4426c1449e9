// Keys that work on every tab: Esc stops what runs, Ctrl+Enter (Cmd+Enter) starts it. An Esc that
// closes a list of choices, or ends the input of a character, stops nothing.
document.addEventListener('keydown', (event) => {
  if (document.querySelector('dialog[open]')) return;
  const press = (kind) => {
    for (const button of document.querySelectorAll('button.hf-key-' + kind)) {
      if (button.offsetParent !== null && !button.disabled) { button.click(); return true; }
    }
    return false;
  };
  const choosing = event.isComposing || event.target.closest?.('input[role=listbox]');
  if (event.key === 'Escape' && !choosing && press('stop')) event.preventDefault();
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && press('go')) {
    event.preventDefault();
  }
});
