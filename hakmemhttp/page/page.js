// The page of package hakmemhttp. It reads the samples of stream (export.Sample in the program's source says what
// is in one) and draws them. It keeps the samples of five minutes, and nothing beyond the life of the page.
'use strict';

const keep = 300; // readings: five minutes at one a second
const $ = id => document.getElementById(id);
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// bytes and count write numbers for people.
function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  for (; Math.abs(n) >= 1000 && i < units.length - 1; i++) n /= 1024;
  return (i === 0 || Number.isInteger(n) ? Math.round(n) : n.toFixed(Math.abs(n) < 10 ? 2 : Math.abs(n) < 100 ? 1 : 0)) + ' ' + units[i];
}
function count(n) {
  if (n >= 1e6) return +(n / 1e6).toFixed(n < 1e7 ? 2 : 1) + ' M';
  if (n >= 1e4) return +(n / 1e3).toFixed(n < 1e5 ? 1 : 0) + ' k';
  return n >= 100 || Number.isInteger(n) ? String(Math.round(n)) : n.toFixed(1);
}
const perSecond = write => n => write(n) + '/s';
function seconds(n) {
  return n < 1 ? Math.round(n * 1000) + ' ms' : n < 120 ? n.toFixed(1) + ' s' : (n / 60).toFixed(1) + ' min';
}

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

// Reading what is in a sample.
const plain = (s, name) => s.figures.plain[name] || 0;
const labelled = (s, name) => s.figures.labelled[name] || {};
const total = (s, name) => Object.values(labelled(s, name)).reduce((sum, n) => sum + n, 0);

// rate is how fast a figure grows. A figure that fell, as some may a little, stands still.
const rate = value => (s, before) => before ? Math.max(0, value(s) - value(before)) / Math.max((s.time_ms - before.time_ms) / 1000, 0.001) : null;
const grows = name => rate(s => plain(s, name));

// Chart is a plot over time. lines say what it shows: a name, a colour, and the value in a sample (with the sample
// before it). Areas are stacked, the first one at the bottom.
class Chart {
  constructor(name, lines, write) {
    this.section = document.querySelector(`[data-plot=${name}]`);
    this.lines = lines;
    this.write = write;
    this.values = lines.map(() => []); // what each line shows; not stacked
    this.times = [];
    this.box = this.section.querySelector('.plot');
    this.legend = lines.map(l => {
      const item = element('li'), dot = element('span', l.area ? 'dot' : l.dashed ? 'dot dashed' : 'dot');
      if (l.dashed) dot.style.borderColor = `var(${l.color})`; else dot.style.background = `var(${l.color})`;
      const value = element('b', '', '–');
      item.append(dot, l.name + ' ', value);
      this.section.querySelector('.legend').append(item);
      return value;
    });
    const order = [...lines.keys()].reverse(); // the largest area is drawn first, and the others over it
    this.order = order.filter(i => lines[i].area).concat(order.filter(i => !lines[i].area));
    const axis = {stroke: () => css('--soft'), grid: {stroke: () => css('--line'), width: 1}, ticks: {stroke: () => css('--line'), width: 1}, font: '12px system-ui, sans-serif'};
    const powers = Array.from({length: 50}, (_, i) => 2 ** i);
    this.plot = new uPlot({
      width: this.width(), height: 220,
      legend: {show: false},
      cursor: {drag: {x: false, y: false}, points: {show: false}},
      scales: {x: {range: (u, min, max) => [Math.min(min, max - 30), max]}, y: {range: (u, min, max) => [0, max > 0 ? max * 1.08 : 1]}},
      axes: [
        {...axis, space: 70, size: 34, values: (u, at) => at.map(t => new Date(t * 1000).toLocaleTimeString([], {hour12: false}))},
        {...axis, size: 82, space: 36, values: (u, at) => at.map(n => write(n)), ...(write(1024).includes('KiB') ? {incrs: powers} : {})},
      ],
      series: [{}].concat(this.order.map(i => ({
        stroke: () => css(lines[i].color), width: lines[i].area ? 0 : 2, dash: lines[i].dashed ? [6, 4] : undefined,
        fill: lines[i].area ? () => css(lines[i].color) : undefined, points: {show: false},
      }))),
      hooks: {setCursor: [u => this.say(u.cursor.idx)]},
    }, this.data(), this.box);
    new ResizeObserver(() => this.plot.setSize({width: this.width(), height: 220})).observe(this.box);
  }
  width() { return Math.max(this.box.clientWidth, 200); }
  add(s, before) {
    this.times.push(s.time_ms / 1000);
    this.lines.forEach((l, i) => this.values[i].push(l.value(s, before)));
    if (this.times.length > keep) for (const column of [this.times, ...this.values]) column.shift();
  }
  data() {
    let sum = this.times.map(() => 0);
    const shown = this.lines.map((l, i) => l.area ? (sum = sum.map((n, at) => n + (this.values[i][at] || 0))) : this.values[i]);
    return [this.times, ...this.order.map(i => shown[i])];
  }
  draw() {
    this.plot.setData(this.data());
    this.say(this.plot.cursor.idx);
  }
  // say writes the values of one reading into the legend: the one pointed at, or the last.
  say(at) {
    if (at === null || at === undefined) at = this.times.length - 1;
    this.legend.forEach((value, i) => {
      const n = this.values[i][at];
      value.textContent = n === null || n === undefined ? '–' : this.write(n);
    });
  }
}

// Bars is a list of bars. A row is a name, parts of a bar, and what is written behind it.
class Bars {
  constructor(name, kinds) {
    this.section = document.querySelector(`[data-plot=${name}]`);
    this.box = this.section.querySelector('.bars');
    this.kinds = kinds;
    this.rows = [];
    if (kinds.length > 1) legendOf(this.section, kinds);
  }
  draw(rows) {
    while (this.rows.length > rows.length) this.rows.pop().remove();
    while (this.rows.length < rows.length) {
      const row = element('div', 'row'), track = element('div', 'track');
      for (const k of this.kinds) {
        const part = element('i');
        part.style.background = `var(${k.color})`;
        track.append(part);
      }
      row.append(element('span', 'name'), track, element('span', 'value'));
      this.box.append(row);
      this.rows.push(row);
    }
    const longest = Math.max(...rows.map(r => r.parts.reduce((a, b) => a + b, 0)), 1e-9);
    rows.forEach((r, i) => {
      const [name, track, value] = this.rows[i].children;
      name.textContent = r.name;
      name.title = r.name;
      value.textContent = r.text;
      track.title = this.kinds.map((k, j) => `${k.name}: ${r.write(r.parts[j])}`).join(', ');
      r.parts.forEach((n, j) => { track.children[j].style.width = 100 * n / longest + '%'; });
    });
  }
}

function legendOf(section, kinds) {
  for (const k of kinds) {
    const item = element('li'), dot = element('span', 'dot'), value = element('b');
    dot.style.background = `var(${k.color})`;
    item.append(dot, k.name + ' ', value);
    section.querySelector('.legend').append(item);
    k.said = value;
  }
}

// The map of the region.
const mapKinds = [
  {name: 'in use', key: 'used', color: '--c1'},
  {name: 'holes in use, without memory', key: 'holes', color: '--c5'},
  {name: 'free, still has memory', key: 'warm', color: '--c3'},
  {name: 'free, returned or never used', key: 'returned', color: '--empty'},
];
const map = {
  section: document.querySelector('[data-plot=region]'),
  canvas: document.querySelector('.map canvas'),
  region: null, columns: 1, side: 1,
  start() {
    legendOf(this.section, mapKinds);
    new ResizeObserver(() => this.draw()).observe(this.canvas.parentElement);
    this.canvas.addEventListener('pointermove', e => this.point(e));
    this.canvas.addEventListener('pointerdown', e => this.point(e));
    this.canvas.addEventListener('pointerleave', () => { $('cell-at').textContent = 'Point at a box to read it.'; });
  },
  draw() {
    const r = this.region;
    if (!r) return;
    const width = this.canvas.parentElement.clientWidth, n = r.used.length, gap = 2, dense = window.devicePixelRatio || 1;
    // As many rows as a third of the width has room for, with boxes of 12 to 28 pixels.
    this.side = Math.min(28, Math.max(12, Math.floor(Math.sqrt(width * width / 3 / Math.max(n, 1)))));
    this.columns = Math.max(1, Math.floor(width / this.side));
    const height = Math.max(1, Math.ceil(n / this.columns)) * this.side;
    this.canvas.width = Math.round(width * dense);
    this.canvas.height = Math.round(height * dense);
    this.canvas.style.height = height + 'px';
    const g = this.canvas.getContext('2d');
    g.scale(dense, dense);
    g.clearRect(0, 0, width, height);
    const colors = mapKinds.map(k => css(k.color)), box = this.side - gap;
    for (let i = 0; i < n; i++) {
      let x = i % this.columns * this.side;
      const y = Math.floor(i / this.columns) * this.side, all = mapKinds.reduce((sum, k) => sum + r[k.key][i], 0);
      mapKinds.forEach((k, j) => {
        const part = box * r[k.key][i] / all;
        if (part > 0) {
          g.fillStyle = colors[j];
          g.fillRect(x, y, part, box);
        }
        x += part;
      });
    }
  },
  show(region) {
    this.region = region;
    $('cell-unit').textContent = bytes(region.cell_bytes) + ' a box';
    const sums = mapKinds.map(k => region[k.key].reduce((a, b) => a + b, 0) * 1024);
    mapKinds.forEach((k, j) => { k.said.textContent = bytes(sums[j]); });
    this.canvas.setAttribute('aria-label', 'Map of the memory: ' + mapKinds.map((k, j) => `${k.name} ${bytes(sums[j])}`).join(', '));
    this.draw();
  },
  point(e) {
    const at = this.canvas.getBoundingClientRect();
    const i = Math.floor((e.clientY - at.top) / this.side) * this.columns + Math.floor((e.clientX - at.left) / this.side);
    if (!this.region || Math.floor((e.clientX - at.left) / this.side) >= this.columns || i >= this.region.used.length) return;
    $('cell-at').textContent = `Box ${i + 1} of ${this.region.used.length}: ` + mapKinds.map(k => `${bytes(this.region[k.key][i] * 1024)} ${k.name}`).join(', ') + '.';
  },
};

// What is shown.
const area = (name, color, figure) => ({name, color, area: true, value: s => plain(s, figure)});
const residentKinds = [
  area('slabs (blocks up to 32 KiB)', '--c1', 'resident_slab_bytes'),
  area('live large blocks', '--c2', 'resident_large_live_bytes'),
  area('cached large blocks', '--c5', 'resident_large_cached_bytes'),
  area('free pages', '--c3', 'resident_free_bytes'),
  area('guarded blocks', '--ink', 'resident_guarded_bytes'),
  area('hakmem’s tables', '--c6', 'resident_table_bytes'),
];
// Where the system does not say what is resident, hakmem's own count is an upper bound.
const countedKinds = [
  area('slabs and large blocks', '--c1', 'used_bytes'),
  area('free pages', '--c3', 'dirty_bytes'),
  {name: 'tables and guarded blocks', color: '--c6', area: true, value: s => Math.max(0, plain(s, 'counted_bytes') - plain(s, 'used_bytes') - plain(s, 'dirty_bytes'))},
];
const live = {name: 'live blocks', color: '--ink', dashed: true, value: s => plain(s, 'live_bytes')};
const soft = {name: 'soft limit', color: '--bad', dashed: true, value: s => plain(s, 'soft_limit_bytes') || null};
const calls = ['reserve', 'commit', 'decommit', 'advise', 'populate'];
const systemCalls = s => calls.reduce((sum, c) => sum + plain(s, c + '_calls_total'), 0);

let charts = null, before = null, newest = null, paused = false;
const classBars = new Bars('classes', [{name: 'live', color: '--c1'}, {name: 'free in magazines', color: '--c3'}, {name: 'free in slabs', color: '--c5'}]);
const siteBars = new Bars('sites', [{name: 'live', color: '--c4'}]);
const stallBars = new Bars('stalls', [{name: 'time', color: '--c5'}]);
siteBars.box.classList.add('long');
stallBars.box.classList.add('wordy');
map.start();

function begin(s) {
  const known = residentKinds.some(k => k.value(s) > 0);
  if (!known) $('resident-how').textContent = 'This system does not say what is resident. The areas add up to the most that may be, by hakmem’s own count. The dashed line is what the program holds alive.';
  charts = [
    new Chart('resident', [...(known ? residentKinds : countedKinds), live].concat(plain(s, 'soft_limit_bytes') > 0 ? [soft] : []), bytes),
    new Chart('freed', [
      {name: 'kept, and used again', color: '--c4', value: grows('kept_reused_bytes_total')},
      {name: 'returned', color: '--c1', value: grows('returned_bytes_total')},
      {name: 'returned as holes', color: '--c2', value: grows('holes_returned_bytes_total')},
      {name: 'wanted again too soon', color: '--bad', value: grows('faulted_again_bytes_total')},
      {name: 'kept in vain', color: '--c3', value: grows('kept_in_vain_bytes_total')},
    ], perSecond(bytes)),
    new Chart('faults', [['tiny', 'up to 1 KiB', '--c1'], ['mid', 'up to 32 KiB', '--c2'], ['large', 'up to 2 MiB', '--c3'], ['huge', 'above 2 MiB', '--c5']].map(
      ([kind, name, color]) => ({name, color, value: grows(`faulted_${kind}_pages`)})), perSecond(count)),
    new Chart('slow', [
      {name: 'misses', color: '--c1', value: rate(s => total(s, 'class_misses_total'))},
      {name: 'memory system calls', color: '--c3', value: rate(systemCalls)},
      {name: 'caches emptied', color: '--c5', value: rate(s => plain(s, 'drains_total'))},
    ], perSecond(count)),
  ];
  charts.known = known;
  $('program').textContent = `${s.program} (process ${s.pid})`;
  document.title = `${s.program}: hakmem`;
  $('trim').hidden = !s.trim;
  showProfile(s.profile);
}

function showClasses(s) {
  const [alive, inMagazines, free] = ['class_live_blocks', 'class_magazine_blocks', 'class_free_blocks'].map(name => labelled(s, name));
  const rows = Object.keys(alive).map(size => ({size: +size, parts: [alive, inMagazines, free].map(by => (by[size] || 0) * size)}));
  for (const r of rows) r.all = r.parts.reduce((a, b) => a + b, 0);
  const most = rows.filter(r => r.all > 0).sort((a, b) => b.all - a.all).slice(0, 12);
  classBars.draw(most.map(r => ({name: bytes(r.size), parts: r.parts, text: bytes(r.parts[0]) + ' live', write: bytes})));
  classBars.kinds.forEach((k, j) => { k.said.textContent = bytes(rows.reduce((sum, r) => sum + r.parts[j], 0)); });
}

function showSites(s) {
  const alive = labelled(s, 'site_live_bytes'), oneIn = labelled(s, 'site_live_one_in_blocks');
  const rows = Object.keys(alive).map(name => ({name, n: alive[name] * (oneIn[name] || 1)})).sort((a, b) => b.n - a.n).slice(0, 12);
  siteBars.draw(rows.map(r => ({name: r.name, parts: [r.n], text: bytes(r.n), write: bytes})));
  $('no-sites').textContent = rows.length ? '' : 'This program names none.';
}

function showStalls(s, last) {
  const time = labelled(s, 'phase_seconds'), longest = labelled(s, 'phase_longest_cycles'), cycles = labelled(s, 'phase_cycles_total');
  const names = Object.keys(time);
  $('timing').textContent = names.length ? '' : 'They are not measured: start the program with HAKMEM_TIMING=1 to see them.';
  const step = last ? Math.max((s.time_ms - last.time_ms) / 1000, 0.001) : 1;
  stallBars.draw(names.map(name => {
    const was = last ? labelled(last, 'phase_seconds')[name] || 0 : time[name];
    const ms = 1000 * Math.max(0, time[name] - was) / step;
    const worst = cycles[name] > 0 ? longest[name] * time[name] / cycles[name] : 0;
    return {name, n: ms, parts: [ms], text: `${ms.toFixed(2)} ms/s (longest ${(worst * 1000).toFixed(2)} ms)`, write: n => n.toFixed(2) + ' ms/s'};
  }).sort((a, b) => b.n - a.n));
}

function showWords(s) {
  const caches = plain(s, 'magazine_bytes') + (charts.known ? plain(s, 'resident_large_cached_bytes') + plain(s, 'resident_free_bytes') : plain(s, 'large_cached_bytes') + plain(s, 'dirty_bytes'));
  const [softLimit, hardLimit] = [plain(s, 'soft_limit_bytes'), plain(s, 'hard_limit_bytes')];
  $('t-resident').textContent = bytes(plain(s, 'resident_bytes'));
  $('t-live').textContent = bytes(plain(s, 'live_bytes'));
  $('t-free').textContent = bytes(caches);
  $('t-limit').textContent = softLimit || hardLimit ? [softLimit, hardLimit].map(n => n ? bytes(n) : 'none').join(' / ') : 'none';
  const failed = plain(s, 'failed_allocations_total');
  $('t-refused').textContent = count(failed);
  $('tile-refused').classList.toggle('bad', failed > 0);
  $('hold').textContent = `Free pages are now kept for ${seconds(plain(s, 'scavenger_hold_seconds'))} on average.`;
  $('refusals').textContent = `Since the start: ${count(plain(s, 'limit_refusals_total'))} refusals by the hard limit, ${count(plain(s, 'pressure_rounds_total'))} rounds near the soft limit.`;
  $('cost').textContent = `A reading takes ${s.took_ms.toFixed(1)} ms, one every ${seconds(s.every_ms / 1000)}.`;
  $('words').textContent = s.words || '–';
}

// draw shows the newest sample.
function draw() {
  for (const c of charts) c.draw();
  showClasses(newest);
  showSites(newest);
  showWords(newest);
  map.show(newest.region);
}

function showProfile(path) {
  const p = $('profile'), link = element('a', '', path), url = new URL(path, location.href);
  const say = there => {
    link.href = there ? url.href + '?debug=1' : url.href;
    p.replaceChildren(...(there
      ? ['The heap profile of hakmem: ', link, '. As a graph or flames: ', element('code', '', `go tool pprof -http=: ${url.href}`), '.']
      : ['This program serves no heap profile of hakmem at ', link, '. The sites above say which part of it holds memory.']));
  };
  fetch(url, {method: 'HEAD'}).then(r => say(r.ok), () => say(false));
}

function state(text, name) {
  $('state').textContent = text;
  $('state').className = 'state ' + name;
}

// The stream. The browser connects anew by itself.
const stream = new EventSource('stream');
stream.onmessage = e => {
  const s = JSON.parse(e.data), last = before;
  if (last && s.time_ms <= last.time_ms) return; // the same one again, after a new connection
  if (last && s.pid !== last.pid) return location.reload(); // the program was started anew
  if (!charts) begin(s);
  for (const c of charts) c.add(s, last);
  before = newest = s;
  if (paused) return;
  state('live', 'live');
  draw();
  showStalls(s, last);
};
stream.onerror = () => {
  state(stream.readyState === EventSource.CLOSED ? 'the program refuses: reload the page' : 'no answer: the program has ended or is busy; trying again …', 'gone');
};
$('pause').onclick = () => {
  paused = !paused;
  $('pause').textContent = paused ? 'Go on' : 'Pause';
  state(paused ? 'paused' : 'live', paused ? '' : 'live');
  if (!paused && newest) draw();
};
$('trim').onclick = async () => {
  $('trim').disabled = true;
  try {
    const r = await fetch('trim', {method: 'POST'});
    if (!r.ok) state(await r.text(), 'gone');
  } catch {
    state('no answer to Trim', 'gone');
  }
  $('trim').disabled = false;
};
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  if (charts) { for (const c of charts) c.plot.redraw(); map.draw(); }
});
$('here').textContent = location.origin + location.pathname;
