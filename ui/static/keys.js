// Keys that work on every tab: Esc stops what runs, Ctrl+Enter (Cmd+Enter) starts it.
document.addEventListener('keydown', (event) => {
  if (document.querySelector('dialog[open]')) return;
  const press = (kind) => {
    for (const button of document.querySelectorAll('button.hf-key-' + kind)) {
      if (button.offsetParent !== null && !button.disabled) { button.click(); return true; }
    }
    return false;
  };
  if (event.key === 'Escape' && press('stop')) event.preventDefault();
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && press('go')) {
    event.preventDefault();
  }
});
