// The guided tour. Gradio hands in element, which stays for as long as the page is open. A stop
// opens its tab, marks what to look at, and "Show it" presses the page's own buttons.
const stops = __STOPS__;
const dock = element.querySelector('.hf-tour');
const [where, title, words] = ['.hf-tour-where', 'h2', 'p'].map((at) => dock.querySelector(at));
const [back, show, next] = ['back', 'show', 'next'].map(
  (name) => dock.querySelector(`[data-tour=${name}]`));
let at = 0, opener = null, walk = 0;

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
// A tab that was never open is not on the page yet, and a button may be disabled for a moment.
const find = async (selector, mine) => {
  for (let tries = 0; tries < 80 && mine === walk; tries++, await wait(100)) {
    const found = document.querySelector(selector);
    const button = found?.matches('button, textarea, input') ? found : found?.querySelector('button');
    if (found && found.offsetParent !== null && !(button ?? found).disabled) return found;
  }
  return null;
};
const unmark = () => document.querySelectorAll('.hf-tour-spot').forEach(
  (spot) => spot.classList.remove('hf-tour-spot'));

// On a narrow page the last tabs are behind a button, which the page calls by this name.
const named = (selector, name) => [...document.querySelectorAll(selector)].find(
  (button) => [button.textContent, button.ariaLabel].some((words) => words?.trim() === name));
const open = async (name) => {
  const tab = named('#hf-tabs [role=tab]', name);
  if (tab?.checkVisibility({ visibilityProperty: true })) return tab.click();
  named('#hf-tabs button', 'More tabs')?.click();
  await wait(100);
  (named('.overflow-dropdown button', name) ?? tab)?.click();
};

const mark = (spot) => {
  unmark();
  spot?.classList.add('hf-tour-spot');
  spot?.scrollIntoView({ block: spot.offsetHeight > innerHeight / 2 ? 'start' : 'center' });
};

const visit = async (number) => {
  at = number;
  const mine = ++walk, stop = stops[at];
  unmark();
  where.textContent = `${at + 1} of ${stops.length} · ${stop.tab}`;
  title.textContent = stop.title;
  words.textContent = stop.says;
  back.disabled = at === 0;
  show.hidden = !stop.acts.length;
  show.disabled = false;
  next.textContent = at + 1 < stops.length ? 'Next' : 'End';
  dock.hidden = false;
  title.focus({ preventScroll: true });
  await open(stop.tab);
  const spot = await find(stop.look, mine);
  if (mine === walk) mark(spot);
};

const act = async () => {
  const mine = walk;
  show.disabled = true;
  for (const press of stops[at].acts) {
    const found = await find(press.at, mine);
    if (!found || mine !== walk) break;
    if (press.text) {
      found.value = press.text;
      found.dispatchEvent(new Event('input', { bubbles: true }));
    } else {
      found.click();
    }
    await wait(400); // what one press changes is there before the next
  }
  if (mine === walk) {
    show.disabled = false;
    mark(document.querySelector(stops[at].shows || stops[at].look));
  }
};

const close = () => {
  walk++;
  unmark();
  dock.hidden = true;
  opener?.focus();
};

dock.addEventListener('click', (event) => {
  const name = event.target.closest('button')?.dataset.tour;
  if (name === 'close' || (name === 'next' && at + 1 === stops.length)) close();
  else if (name === 'next') visit(at + 1);
  else if (name === 'back') visit(at - 1);
  else if (name === 'show') act();
});
// Here Esc ends the tour; anywhere else it stops what runs.
dock.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  event.stopPropagation();
  close();
});
document.addEventListener('click', (event) => {
  const start = event.target.closest('.hf-tour-start');
  if (!start) return;
  opener = start;
  visit(0);
});
