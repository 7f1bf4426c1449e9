// The guided tour. Gradio hands in element, which stays for as long as the page is open. A stop
// opens its tab, marks what to look at, and "Show it" presses the page's own buttons.
const stops = __STOPS__;
const dock = element.querySelector('.hf-tour');
const [where, title, words, status] = ['.hf-tour-where', 'h2', '.hf-tour-says', '[role=status]'].map(
  (at) => dock.querySelector(at));
const [back, read, show, next] = ['back', 'read', 'show', 'next'].map(
  (name) => dock.querySelector(`[data-tour=${name}]`));
// walk changes with every stop and at the end, so that what waits for an earlier one gives up.
let at = 0, opener = null, walk = 0, busy = false;
// What is kept at its place in the window while the page grows around it; null once the visitor
// scrolls herself.
let held = null;

const MISSING = 8000, DISABLED = 180000; // milliseconds to wait for what is not there, or is busy
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const visible = (selector) => {
  const found = selector ? document.querySelector(selector) : null;
  return found?.checkVisibility({ visibilityProperty: true }) ? found : null;
};
const until = async (holds, mine, patience = MISSING) => {
  for (const end = Date.now() + patience; mine === walk && Date.now() < end; await wait(100)) {
    const found = holds();
    if (found) return found;
  }
  return null;
};
const find = async (selector, mine) => {
  const found = await until(() => visible(selector), mine);
  if (!found?.disabled) return found;
  status.textContent = 'Waiting for what is under way …';
  return until(() => [visible(selector)].find((one) => one && !one.disabled), mine, DISABLED);
};

// On a narrow page the last tabs are behind a button, which the page calls by this name.
const named = (selector, name) => [...document.querySelectorAll(selector)].find(
  (button) => [button.textContent, button.ariaLabel].some((told) => told?.trim() === name));
const open = async (name, mine) => {
  const tab = named('#hf-tabs [role=tab]', name);
  if (tab?.checkVisibility({ visibilityProperty: true })) return tab.click();
  if (!visible('.overflow-dropdown button')) named('#hf-tabs button', 'More tabs')?.click();
  await wait(100);
  if (mine === walk) (named('.overflow-dropdown button', name) ?? tab)?.click();
};

// Without motion, which some visitors ask to be spared. The page's scroll padding keeps what is
// marked clear of the dock.
const place = () => {
  const spot = held && (visible(held.top) ?? held.spot);
  const tall = spot && spot.offsetHeight > innerHeight / 3;
  spot?.scrollIntoView({ block: held.first || tall ? 'start' : 'nearest', behavior: 'instant' });
};
const growth = new ResizeObserver(place);
// first: whether it comes to the top of the window, or of it what the selector top finds, which may
// be made anew at every word.
const mark = (spot, first = false, top = null) => {
  document.querySelectorAll('.hf-tour-spot').forEach((one) => one.classList.remove('hf-tour-spot'));
  growth.disconnect();
  held = spot && { spot, first, top };
  if (!spot) return;
  spot.classList.add('hf-tour-spot');
  growth.observe(spot); // tells of its size at once
  growth.observe(document.body); // what grows above it moves it
};
new ResizeObserver(() => {
  const high = innerHeight - dock.getBoundingClientRect().top;
  document.documentElement.style.setProperty('--hf-dock', `${high}px`);
  place();
}).observe(dock);
// What is pressed in the dock scrolls nothing, except by the keys that scroll.
const STILL = ['Enter', ' ', 'Tab', 'Shift'];
for (const name of ['wheel', 'touchmove', 'pointerdown', 'keydown']) {
  document.addEventListener(name, ({ target, key }) => {
    const still = name === 'pointerdown' || (name === 'keydown' && STILL.includes(key));
    if (!still || !dock.contains(target)) held = null;
  }, { capture: true, passive: true });
}
// Once it is shown, the words make room for it and can be had back.
const fold = (on) => {
  dock.classList.toggle('hf-tour-folded', on);
  read.setAttribute('aria-expanded', String(!on));
};
const working = (on) => {
  busy = on;
  show.setAttribute('aria-disabled', String(on)); // not disabled: it would lose the focus
};

const visit = async (number) => {
  at = number;
  const mine = ++walk, stop = stops[at];
  mark(null);
  working(false);
  fold(false);
  dock.hidden = false;
  document.documentElement.classList.add('hf-touring');
  where.textContent = `${at + 1} of ${stops.length} · ${stop.tab}`;
  title.textContent = stop.title;
  words.textContent = stop.says;
  status.textContent = '';
  back.disabled = at === 0;
  show.hidden = !stop.acts.length;
  read.hidden = true;
  next.textContent = at + 1 < stops.length ? 'Next' : 'End';
  title.focus({ preventScroll: true });
  await open(stop.tab, mine);
  const spot = await until(() => visible(stop.look), mine);
  if (spot) mark(spot);
};

const press = async ({ at: selector, text, until: then, gone, optional }, mine) => {
  if (optional && !visible(selector)) return true;
  const found = await find(selector, mine);
  if (!found) return false;
  status.textContent = '';
  if (text) {
    found.value = text;
    found.dispatchEvent(new Event('input', { bubbles: true }));
  } else {
    found.click();
  }
  // The server may take its time, and the next press goes by what this one changes.
  if (then && !await until(() => visible(then), mine)) return false;
  return !gone || Boolean(await until(() => !visible(gone), mine));
};
const act = async () => {
  const mine = walk, stop = stops[at];
  working(true);
  await open(stop.tab, mine);
  let done = true;
  for (const step of stop.acts) done = done && await press(step, mine);
  if (mine !== walk) return;
  working(false);
  status.textContent = done ? stop.told : 'That could not be pressed just now. Try it again.';
  if (done) {
    read.hidden = false;
    fold(true);
  }
  mark(visible(stop.shows || stop.look), true, stop.top);
};

const close = () => {
  walk++;
  mark(null);
  dock.hidden = true;
  document.documentElement.classList.remove('hf-touring');
  opener?.focus({ preventScroll: true });
};

dock.addEventListener('click', (event) => {
  const name = event.target.closest('button')?.dataset.tour;
  if (name === 'close' || (name === 'next' && at + 1 === stops.length)) close();
  else if (name === 'next') visit(at + 1);
  else if (name === 'back') visit(at - 1);
  else if (name === 'read') fold(read.getAttribute('aria-expanded') === 'true');
  else if (name === 'show' && !busy) act();
});
// Esc ends the tour first; the next one stops what runs (keys.js).
document.addEventListener('keydown', (event) => {
  const choosing = event.isComposing || event.target.closest?.('input[role=listbox]');
  if (event.key !== 'Escape' || choosing || dock.hidden || document.querySelector('dialog[open]')) return;
  event.stopPropagation();
  event.preventDefault();
  close();
}, { capture: true });
document.addEventListener('click', (event) => {
  const start = event.target.closest('.hf-tour-start');
  if (!start) return;
  opener = start;
  visit(0);
});
