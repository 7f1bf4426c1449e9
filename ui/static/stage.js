// The stage: keeps two clips and a drawn skeleton in step. Gradio hands in element, props, watch.
const LIMBS = __LIMBS__, COLOURS = __COLOURS__;
const find = (what) => element.querySelector(what);
const text = (what, words) => { find(what).textContent = words || ''; };
const clips = { open: find('[data-clip=open]'), held: find('[data-clip=held]') };
const range = find('input[type=range]'), out = find('output'), play = find('[data-do=play]');
const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
let playing = !still, frame = -1, pose = [], fps = 8, clock = 0, before = 0;

const draw = (canvas, joints) => {
  const g = canvas.getContext('2d'), size = canvas.width;
  g.clearRect(0, 0, size, size);
  if (!joints) return;
  g.lineCap = 'round'; g.lineWidth = size / 58;
  LIMBS.forEach(([a, b], i) => {
    if (!joints[a][2] || !joints[b][2]) return;
    g.strokeStyle = `rgb(${COLOURS[i].map((c) => Math.round(c * 0.75)).join(',')})`;
    g.beginPath(); g.moveTo(joints[a][0] * size, joints[a][1] * size);
    g.lineTo(joints[b][0] * size, joints[b][1] * size); g.stroke();
  });
  joints.forEach(([x, y, seen], i) => {
    if (!seen) return;
    const joint = i < COLOURS.length;  // behind the joints come the landmarks of a face
    g.fillStyle = joint ? `rgb(${COLOURS[i].join(',')})` : 'white';
    g.beginPath(); g.arc(x * size, y * size, size / (joint ? 62 : 128), 0, 7); g.fill();
  });
};
const show = (index, force) => {
  if (index === frame && !force) return;
  frame = index;
  const over = find('[data-do=over]').checked;
  draw(find('[data-over=pose]'), pose[frame]);
  for (const side of ['open', 'held']) {
    const canvas = find(`[data-over=${side}]`);
    canvas.hidden = !over || clips[side].hidden;
    if (!canvas.hidden) draw(canvas, pose[frame]);
  }
  range.value = frame; out.textContent = `${frame + 1} / ${Math.max(1, pose.length)}`;
};
const active = () => Object.values(clips).filter((clip) => !clip.hidden && clip.dataset.path);
const run = () => {
  for (const clip of active()) {
    clip.playbackRate = find('[data-do=slow]').checked ? 0.5 : 1;
    if (playing) clip.play().catch(() => {}); else clip.pause();
  }
  play.textContent = playing ? 'Pause' : 'Play';
};
const seek = (index) => {
  clock = index / fps;
  for (const clip of active()) clip.currentTime = (index + 0.5) / fps;
  show(index, true);
};
play.addEventListener('click', () => { playing = !playing; run(); });
find('[data-do=slow]').addEventListener('change', run);
find('[data-do=over]').addEventListener('change', () => show(frame, true));
range.addEventListener('input', () => { playing = false; run(); seek(Number(range.value)); });
for (const clip of Object.values(clips)) {
  clip.addEventListener('loadeddata', () => {
    for (const other of active()) if (other.currentTime > 0) other.currentTime = 0;
    run();
    if (!playing) seek(Math.max(0, frame));
  });
  clip.addEventListener('error', () => update());
}
const tick = (now) => {
  if (!element.isConnected) return;
  requestAnimationFrame(tick);
  const passed = Math.min(0.25, (now - before) / 1000); before = now;
  if (element.offsetParent === null || !pose.length || !playing) return;
  const [master, other] = active();
  if (master) {
    clock = master.currentTime;
    // Two decoders drift and loop apart; a tenth of a second is the least that is seen.
    if (other && Math.abs(other.currentTime - clock) > 0.1 && !other.seeking) other.currentTime = clock;
  } else {
    clock += passed * (find('[data-do=slow]').checked ? 0.5 : 1);
  }
  show(Math.floor(clock * fps + 0.01) % pose.length);
};
const update = () => {
  const value = props.value || {};
  const changed = JSON.stringify(value.pose) !== JSON.stringify(pose);
  fps = value.fps || 8;
  if (changed) { pose = value.pose || []; range.max = Math.max(0, pose.length - 1); clock = 0; frame = -1; }
  const busy = value.state === 'running';
  find('.hf-work').hidden = !busy;
  text('[data-work=message]', value.message); text('[data-work=eta]', value.eta);
  const percent = Math.round(100 * (value.fraction || 0)), bar = find('.hf-meter');
  bar.setAttribute('aria-valuenow', percent); bar.firstElementChild.style.width = percent + '%';
  text('[data-note=pose]', value.title);
  for (const side of ['open', 'held']) {
    const file = value[side], image = find(`[data-preview=${side}]`), clip = clips[side];
    const preview = value['preview_' + side];
    text(`[data-note=${side}]`, value['note_' + side]);
    const told = value['figures_' + side], figures = find(`[data-figures=${side}]`);
    figures.dataset.title ??= figures.title;
    figures.title = (told?.title ?? '') + figures.dataset.title;
    text(`[data-figures=${side}]`, told?.text);
    const failed = Boolean(file && clip.error && clip.dataset.path === file.url);
    const hint = failed ? 'The clip could not be loaded. Generate it again.' : value['hint_' + side];
    text(`[data-hint=${side}]`, (file && !failed) || preview ? '' : hint);
    image.hidden = !(busy && preview);
    if (!image.hidden) image.src = preview;
    clip.hidden = !file || failed;
    if (file && clip.dataset.path !== file.url) { clip.dataset.path = file.url; clip.src = file.url; clip.load(); }
    if (!file) { clip.removeAttribute('src'); delete clip.dataset.path; }
  }
  // Said outside of the bar, which goes at the same moment. An error says itself below the stage.
  if (element.dataset.state === 'running' && !busy) {
    const made = value.held ? 'The pair is ready.' : 'The clip is ready.';
    // Another pose chosen meanwhile ends nothing: the next step shows the bar again.
    text('[data-say]', value.ended ? 'Nothing was made.' : value.state === 'done' ? made : '');
  } else if (busy) text('[data-say]', '');
  element.dataset.state = value.state || 'idle';
  run(); show(Math.max(0, Math.min(frame, pose.length - 1)), true);
};
watch('value', update); update(); requestAnimationFrame(tick);
