// The joint editor. Gradio hands in element, trigger, props, watch. The button asks Python for the
// pose that is chosen; when it comes, the dialog opens. The clip stays as it came; what the visitor
// changes is `edit`: displacements per keyframe and joint, shown joints, mirrored or not.
const JOINTS = __JOINTS__, LIMBS = __LIMBS__, COLOURS = __COLOURS__, CARRIED = __CARRIED__;
const SWAP = __SWAP__, FACE_SWAP = __FACE_SWAP__, CANVAS = __CANVAS__, MAX_BYTES = __MAX_BYTES__;
const HEAD = [0, 14, 15, 16, 17], NECK = 1, REACH = 24, STEP = 0.01, FAR = 0.05, PAST = 200;
const CLOSE = 0.4; // part of the frame that is in view when zoomed in
const NAMES = { 1: ['Only frame'], 2: ['First', 'Last'], 3: ['First', 'Middle', 'Last'] };
const find = (what) => element.querySelector(what);
const root = find('dialog'), board = find('.hf-joints-board svg'), mini = find('.hf-joints-play svg');
const layer = (name) => find(`[data-layer=${name}]`);
const button = (name) => find(`button[data-do=${name}]`);
const checked = (name) => find(`input[data-do=${name}]`).checked;
const range = find('input[type=range]');
let clip = null, edit = null, past = [], future = [], key = 0, chosen = -1, drag = null, typed = null;
let latest = 0, view = { x: 0, y: 0, side: 1 };
let playing = !matchMedia('(prefers-reduced-motion: reduce)').matches, clock = 0, before = 0, frame = 0;

// What a frame looks like ------------------------------------------------------------------------
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const copy = (value) => JSON.parse(JSON.stringify(value));
const untouched = () => ({
  moved: clip.keys.map(() => JOINTS.map(() => [0, 0])), shown: JOINTS.map(() => null), mirrored: false,
});
const flip = (points, order) => order.map((other) => {
  const point = points[other];
  return point && [1 - point[0], ...point.slice(1)];
});
const shift = (index, joint) => clip.weights[index].reduce(([x, y], weight, k) => [
  x + weight * edit.moved[k][joint][0], y + weight * edit.moved[k][joint][1]], [0, 0]);
const bare = (index) => (edit.mirrored ? flip(clip.pose[index], SWAP) : clip.pose[index]);
const joints = (index) => bare(index).map(([x, y, seen], joint) => {
  const [dx, dy] = shift(index, joint);
  return [x + dx, y + dy, edit.shown[joint] ?? Boolean(seen)];
});
const landmarks = (index) => {
  if (!clip.face) return null;
  // The face goes where the head goes.
  const pose = joints(index), heads = HEAD.filter((joint) => pose[joint][2]);
  const by = (heads.length ? heads : [NECK]).map((joint) => shift(index, joint));
  const [dx, dy] = [0, 1].map((axis) => by.reduce((sum, move) => sum + move[axis], 0) / by.length);
  const face = edit.mirrored ? flip(clip.face[index], FACE_SWAP) : clip.face[index];
  return face.map((point) => point && [point[0] + dx, point[1] + dy]);
};
const changed = () => JSON.stringify(edit) !== JSON.stringify(untouched());
const openpose = () => {
  const pixel = (part) => Math.round((part * CANVAS - 0.5) * 1000) / 1000;
  const triple = (point, seen) => (point && seen ? [pixel(point[0]), pixel(point[1]), 1] : [0, 0, 0]);
  return JSON.stringify(clip.pose.map((_, index) => {
    const person = { pose_keypoints_2d: joints(index).flatMap((joint) => triple(joint, joint[2])) };
    const face = landmarks(index);
    if (face) person.face_keypoints_2d = face.flatMap((point) => triple(point, true));
    return { people: [person], canvas_width: CANVAS, canvas_height: CANVAS };
  }));
};

// Drawing ----------------------------------------------------------------------------------------
const make = (parent, tag, attributes = {}) => {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return parent.appendChild(node);
};
const ink = (i, light) => `rgb(${COLOURS[i].map((part) => Math.round(part * light)).join(',')})`;
const skeleton = (parent, dots) => {
  const bones = LIMBS.map((_, i) => make(parent, 'line', { stroke: ink(i, 0.75) }));
  const face = make(parent, 'path', { class: 'face' });
  const ends = dots ? JOINTS.map((_, i) => make(parent, 'circle', { r: 10, fill: ink(i, 1) })) : [];
  return (pose, points) => {
    LIMBS.forEach(([a, b], i) => {
      const there = pose[a][2] && pose[b][2];
      bones[i].style.display = there ? '' : 'none';
      const [x1, y1, x2, y2] = [...pose[a].slice(0, 2), ...pose[b].slice(0, 2)].map((v) => v * CANVAS);
      for (const [name, value] of Object.entries({ x1, y1, x2, y2 })) bones[i].setAttribute(name, value);
    });
    ends.forEach((dot, i) => {
      dot.style.display = pose[i][2] ? '' : 'none';
      dot.setAttribute('cx', pose[i][0] * CANVAS); dot.setAttribute('cy', pose[i][1] * CANVAS);
    });
    const spots = (points || []).filter(Boolean);
    face.setAttribute('d', spots.map(([x, y]) => `M${x * CANVAS} ${y * CANVAS}h.01`).join(''));
  };
};
const drawBefore = skeleton(layer('before')), drawBones = skeleton(layer('bones'));
const drawMini = skeleton(mini, true);
const handles = JOINTS.map((name, i) => {
  const handle = make(layer('handles'), 'g', {
    class: HEAD.includes(i) ? 'joint small' : 'joint', tabindex: 0, role: 'slider', 'data-joint': i,
    'aria-label': name, 'aria-roledescription': 'joint', 'aria-valuemin': 0, 'aria-valuemax': 100,
  });
  make(handle, 'circle', { class: 'hit' });
  make(handle, 'circle', { class: 'ring', r: HEAD.includes(i) ? 11 : 15 });
  make(handle, 'circle', { class: 'dot', r: HEAD.includes(i) ? 6 : 9, fill: ink(i, 1) });
  return handle;
});
const fit = () => {
  // Hit areas keep their size on the screen: 44 px across on the smallest phone too.
  const radius = 22 * CANVAS / (board.clientWidth || CANVAS);
  for (const handle of handles) handle.firstElementChild.setAttribute('r', radius);
};
const drawPlayback = () => {
  drawMini(joints(frame), landmarks(frame));
  range.value = frame; find('output').textContent = `${frame + 1} / ${clip.pose.length}`;
};
const enable = (name, on) => button(name).setAttribute('aria-disabled', String(!on));
const draw = () => {
  const at = clip.keys[key], pose = joints(at);
  drawBones(pose, landmarks(at));
  const old = edit.moved[key].some(([x, y]) => x || y);
  layer('before').style.display = old ? '' : 'none';
  if (old) drawBefore(bare(at), null);
  handles.forEach((handle, i) => {
    const [x, y, seen] = pose[i], percent = [x, y].map((part) => Math.round(part * 100));
    handle.setAttribute('transform', `translate(${x * CANVAS} ${y * CANVAS}) scale(${view.side})`);
    handle.classList.toggle('off', !seen); handle.classList.toggle('chosen', i === chosen);
    handle.setAttribute('aria-valuenow', percent[0]);
    handle.setAttribute('aria-valuetext', seen
      ? `${percent[0]} % from the left, ${percent[1]} % from the top` : 'hidden; Delete brings it back');
  });
  find('.hf-joints-board span').textContent =
    chosen < 0 ? '' : JOINTS[chosen] + (pose[chosen][2] ? '' : ' (hidden)');
  [...find('[data-keys]').children].forEach((tab, k) => {
    const touched = edit.moved[k].some(([x, y]) => x || y), name = NAMES[clip.keys.length][k];
    tab.setAttribute('aria-pressed', String(k === key));
    tab.classList.toggle('touched', touched);
    tab.setAttribute('aria-label', `${name} keyframe${touched ? ', changed' : ''}`);
  });
  enable('undo', past.length); enable('redo', future.length); enable('reset', changed());
  drawPlayback();
};

// Changing ---------------------------------------------------------------------------------------
const say = (words) => { find('[role=status]').textContent = words; };
const keep = (snapshot) => { past.push(snapshot); past = past.slice(-PAST); future = []; };
const change = (apply, words) => { keep(copy(edit)); typed = null; apply(); say(words); draw(); };
const travel = (from, to, words) => {
  if (!from.length) return;
  to.push(copy(edit)); edit = from.pop(); typed = null; say(words); draw();
};
const undo = () => travel(past, future, 'Undone.');
const redo = () => travel(future, past, 'Done again.');
const mirror = () => change(() => {
  edit = {
    moved: edit.moved.map((row) => SWAP.map((other) => [-row[other][0], row[other][1]])),
    shown: SWAP.map((other) => edit.shown[other]), mirrored: !edit.mirrored,
  };
}, 'Mirrored, in all frames.');
const reset = () => { if (changed()) change(() => { edit = untouched(); }, 'Back to the clip as it came.'); };
const toggle = (joint) => {
  const seen = joints(clip.keys[key])[joint][2];
  change(() => { edit.shown[joint] = !seen; },
    `${JOINTS[joint]} ${seen ? 'hidden' : 'shown'} in all frames.`);
};
const move = (from, joint, dx, dy, alone) => {
  const group = alone ? [joint] : CARRIED[joint];
  edit = copy(from);
  const keys = checked('all') ? clip.keys.map((_, k) => k) : [key];
  for (const pose of keys.map((k) => joints(clip.keys[k]))) {
    for (const member of group) {
      // Nobody is pushed out of the frame; who is outside already may stay there.
      if (member !== joint && !pose[member][2]) continue;
      const [x, y] = pose[member];
      if (x >= 0 && x <= 1) dx = clamp(dx, -x, 1 - x);
      if (y >= 0 && y <= 1) dy = clamp(dy, -y, 1 - y);
    }
  }
  for (const row of keys.map((k) => edit.moved[k])) {
    for (const member of group) row[member] = [row[member][0] + dx, row[member][1] + dy];
  }
  draw();
};
const alone = (event) => checked('limb') === event.altKey;
const choose = (joint) => {
  if (joint === chosen) return;
  chosen = joint;
  if (joint >= 0) latest = joint;
  draw();
};
const look = () => {
  const side = checked('zoom') ? CLOSE : 1;
  const [x, y] = joints(clip.keys[key])[latest].map((centre) => clamp(centre - side / 2, 0, 1 - side));
  view = { x, y, side };
  board.setAttribute('viewBox', [x, y, side, side].map((part) => part * CANVAS).join(' '));
  board.style.setProperty('--side', side);
  draw();
};
const go = (k) => {
  key = k; typed = null;
  if (!playing) { frame = clip.keys[k]; clock = frame / clip.fps; }
  draw();
};

// Pointer and keys -------------------------------------------------------------------------------
const place = (event) => {
  const box = board.getBoundingClientRect();
  return [
    view.x + view.side * (event.clientX - box.left) / box.width,
    view.y + view.side * (event.clientY - box.top) / box.height,
  ];
};
const nearest = (event) => {
  // Hit areas of a face overlap: the joint whose centre is nearest is meant. Hidden ones stand back.
  const [x, y] = place(event), width = board.clientWidth / view.side;
  let best = -1, least = REACH;
  joints(clip.keys[key]).forEach(([jx, jy, seen], joint) => {
    const distance = Math.hypot(jx - x, jy - y) * width + (seen ? 0 : 6);
    if (distance < least) { best = joint; least = distance; }
  });
  return best;
};
board.addEventListener('pointerdown', (event) => {
  if (drag || event.button) return;
  const joint = nearest(event);
  choose(joint);
  if (joint < 0) return;
  event.preventDefault();
  // Before the focus moves: a joint that loses it during a drag leaves the view where it is.
  drag = { id: event.pointerId, joint, start: place(event), from: copy(edit), moved: false };
  handles[joint].focus({ preventScroll: true });
  board.setPointerCapture(event.pointerId);
  root.classList.add('dragging');
});
// A finger on a joint drags it; beside the joints it scrolls. The touch follows its pointerdown, and
// browsers differ in whether they heed touch-action on parts of an SVG.
board.addEventListener('touchstart', (event) => { if (drag) event.preventDefault(); }, { passive: false });
board.addEventListener('pointermove', (event) => {
  if (!drag) { board.classList.toggle('near', nearest(event) >= 0); return; }
  if (event.pointerId !== drag.id) return;
  const [x, y] = place(event), dx = x - drag.start[0], dy = y - drag.start[1];
  // A click that trembles is no drag.
  if (!drag.moved && Math.hypot(dx, dy) * board.clientWidth < 3 * view.side) return;
  drag.moved = true;
  move(drag.from, drag.joint, dx, dy, alone(event));
});
const drop = (keepIt) => {
  if (!drag) return;
  const { joint, from, moved } = drag;
  drag = null; root.classList.remove('dragging');
  if (!moved) return;
  if (keepIt) { keep(from); say(`${JOINTS[joint]} moved.`); } else edit = from;
  typed = null; draw();
};
board.addEventListener('pointerup', (event) => { if (drag?.id === event.pointerId) drop(true); });
board.addEventListener('pointercancel', (event) => { if (drag?.id === event.pointerId) drop(false); });
board.addEventListener('focusin', (event) => {
  const joint = Number(event.target.dataset.joint ?? -1);
  if (joint === chosen) return;
  choose(joint); look();
});
board.addEventListener('focusout', () => { typed = null; if (!drag) choose(-1); });
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
root.addEventListener('keydown', (event) => {
  const joint = Number(event.target.dataset?.joint ?? -1), command = event.ctrlKey || event.metaKey;
  const pressed = event.key.toLowerCase();
  let done = true;
  if (event.key === 'Escape' && drag) drop(false);
  else if (drag) return;
  else if (command && pressed === 'z') { if (event.shiftKey) redo(); else undo(); }
  else if (command && pressed === 'y') redo();
  else if (joint >= 0 && ARROWS[event.key] && !command) {
    const [dx, dy] = ARROWS[event.key].map((part) => part * (event.shiftKey ? FAR : STEP));
    // A row of presses on one joint is one step of undo.
    if (typed !== joint) { keep(copy(edit)); typed = joint; }
    move(edit, joint, dx, dy, alone(event)); look();
  } else if (joint >= 0 && (event.key === 'Delete' || event.key === 'Backspace')) toggle(joint);
  else done = false;
  if (done) event.preventDefault();
  // Escape closes the dialog and is not the page's "stop".
  if (done || event.key === 'Escape') event.stopPropagation();
});

// Buttons and playback ---------------------------------------------------------------------------
const run = () => { button('play').textContent = playing ? 'Pause' : 'Play'; };
const save = () => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([openpose()], { type: 'application/json' }));
  link.download = `${clip.title.replace(/[^\w-]+/g, '_') || 'pose'}${changed() ? '_edited' : ''}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};
const file = find('input[type=file]');
file.addEventListener('change', async () => {
  const [chosenFile] = file.files;
  if (!chosenFile) return;
  if (chosenFile.size > MAX_BYTES) { say('The file is too large.'); file.value = ''; return; }
  if (changed() && !confirm('Load the file in place of what you have changed?')) { file.value = ''; return; }
  say('Reading …');
  trigger('upload', { clip: await chosenFile.text(), title: chosenFile.name.replace(/\.json$/i, '') });
  file.value = '';  // the same file can be chosen again
});
const ACTIONS = {
  undo, redo, mirror, reset, save,
  open: () => file.click(),
  use: () => { trigger('submit', { clip: openpose() }); root.close(); },
  close: () => root.close(),
  play: () => { playing = !playing; run(); },
};
root.addEventListener('click', (event) => {
  const pressed = event.target.closest('button');
  if (!pressed) return;
  if (pressed.dataset.key) go(Number(pressed.dataset.key)); else ACTIONS[pressed.dataset.do]();
});
// The dialog is the target of a press on its backdrop, and of one on its own scrollbar too.
const beside = ({ clientX: x, clientY: y }) => {
  const box = root.getBoundingClientRect();
  return x < box.left || x > box.right || y < box.top || y > box.bottom;
};
root.addEventListener('pointerdown', (event) => {
  if (event.target === root && beside(event)) root.close();
});
root.addEventListener('close', () => drop(false));
find('.hf-joints-open').addEventListener('click', () => trigger('edit'));
find('input[data-do=zoom]').addEventListener('change', look);
range.addEventListener('input', () => {
  playing = false; run(); frame = Number(range.value); clock = frame / clip.fps; drawPlayback();
});
new ResizeObserver(fit).observe(board);
const tick = (now) => {
  if (!element.isConnected) return;
  requestAnimationFrame(tick);
  const passed = Math.min(0.25, (now - before) / 1000); before = now;
  if (!playing || !root.open) return;
  clock += passed;
  const next = Math.floor(clock * clip.fps) % clip.pose.length;
  if (next !== frame) { frame = next; drawPlayback(); }
};
const load = (value) => {
  clip = copy(value); edit = untouched();
  past = []; future = []; key = 0; chosen = -1; drag = null; typed = null; frame = 0; clock = 0;
  latest = 0;
  range.max = clip.pose.length - 1;
  find('[data-keys]').replaceChildren(...NAMES[clip.keys.length].map((name, k) => {
    const tab = document.createElement('button');
    tab.type = 'button'; tab.dataset.key = k; tab.textContent = name;
    return tab;
  }));
  find('small').textContent = clip.title; say(clip.notes || ''); run(); look();
};
const open = () => {
  const { opened, ...value } = props.value;
  if (value.refused) { say(value.refused); return; }
  // The same clip again: what was begun on it is still there.
  if (JSON.stringify(value) !== JSON.stringify(clip)) load(value);
  if (!root.open) root.showModal();
  fit();
};
watch('value', open); requestAnimationFrame(tick);
