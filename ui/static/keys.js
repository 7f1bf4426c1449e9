// Keys that work on every tab: Esc stops what runs, Ctrl+Enter (Cmd+Enter) starts it. An Esc that
// closes a dialog or a list of choices, or ends the input of a character, stops nothing.
const dialog = () => [...document.querySelectorAll('dialog[open], [aria-modal=true]')]
  .some((one) => one.checkVisibility());
document.addEventListener('keydown', (event) => {
  if (event.defaultPrevented || dialog()) return;
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
// Whoever points at a button, or reaches it, is told its key.
const tell = (event) => {
  const button = event.target.closest?.('button.hf-key-stop, button.hf-key-go');
  if (!button || button.title) return;
  const key = button.classList.contains('hf-key-stop') ? 'Escape' : 'Control+Enter';
  button.title = { Escape: 'Esc', 'Control+Enter': 'Ctrl+Enter' }[key];
  button.setAttribute('aria-keyshortcuts', key);
};
document.addEventListener('pointerover', tell);
document.addEventListener('focusin', tell);
