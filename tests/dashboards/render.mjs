// Draws what the dashboards show, from their definitions and a server's answers, which come as JSON on stdin:
//   node render.mjs vega            each Vega panel with several versions of Vega; prints what came out, with every warning
//   node render.mjs pictures DIR    each dashboard as a page of HTML in DIR, laid out as in the file
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as vega from 'vega';
import * as newest from 'vega-newest';
// The bundle, as the programs have it: its parts as packages would be newer ones.
import oldest from 'vega-oldest/build/vega.js';
import * as lite from 'vega-lite';
import { expressionInterpreter } from 'vega-interpreter';

const OKABE_ITO = ['#0072B2', '#E69F00', '#009E73', '#CC79A7', '#56B4E9', '#D55E00', '#F0E442', '#999999'];
const FONT = 'Inter, "Helvetica Neue", Arial, "Liberation Sans", "DejaVu Sans", sans-serif';
const INK = '#343741';

// A logger that keeps what it is told.
function keeper(warnings) {
  const keep = (...words) => { warnings.push(words.join(' ')); return logger; };
  const logger = { level: (level) => (level === undefined ? 0 : logger), error: keep, warn: keep, info: () => logger, debug: () => logger };
  return logger;
}

async function draw(library, specification, width, height, warnings, expr) {
  const logger = keeper(warnings);
  const runtime = library.parse(specification, {}, { logger, ast: Boolean(expr) });
  const view = new library.View(runtime, { renderer: 'none', expr, logger, loader: library.loader({ baseURL: 'file:///nowhere' }) });
  if (width) view.width(width);
  if (height) view.height(height);
  const svg = await view.runAsync().then(() => view.toSVG());
  const marks = (item) => (item.items ?? []).reduce((sum, inner) => sum + marks(inner), item.marktype === undefined ? 1 : 0);
  const drawn = marks(view.scenegraph().root);
  view.finalize();
  return { svg, drawn };
}

// The program's part: the search is replaced by its answer, and the panel gives width and height.
function answered(panel) {
  const specification = JSON.parse(panel.state.params.spec);
  for (const data of specification.data) {
    if (data.url) {
      delete data.url;
      data.values = panel.answer;
    }
  }
  return { ...specification, autosize: { type: 'fit', contains: 'padding' } };
}

async function vegas(dashboards) {
  const results = [];
  for (const panel of dashboards.flatMap((dashboard) => dashboard.panels).filter((panel) => panel.kind === 'vega')) {
    // The programs forbid `eval`, so expressions are interpreted there.
    for (const [library, expr] of [[oldest], [vega], [vega, expressionInterpreter], [newest]]) {
      const warnings = [];
      const { svg, drawn } = await draw(library, answered(panel), 700, 320, warnings, expr);
      results.push({ id: panel.id, version: library.version, interpreted: Boolean(expr), warnings, drawn, bytes: svg.length, broken: /NaN|Infinity|undefined/.test(svg) });
    }
  }
  console.log(JSON.stringify(results));
}

// Rows of an answer: the keys of all buckets above, and the numbers of the innermost.

const label = (agg, key) => (key === '__missing__' ? agg.params.missingBucketLabel : key);

function rows(state, answer) {
  const metrics = state.aggs.filter((agg) => agg.schema === 'metric');
  const buckets = state.aggs.filter((agg) => agg.schema !== 'metric');
  const numbers = (node, count) => metrics.map((agg) => (agg.type === 'count' ? count : node[agg.id]?.value ?? 0));
  const walk = (node, depth, keys, count) => {
    if (depth === buckets.length) return [{ keys, numbers: numbers(node, count) }];
    const agg = buckets[depth];
    const found = node[agg.id]?.buckets ?? [];
    const named = Array.isArray(found) ? found.map((bucket) => [bucket.key, bucket]) : agg.params.filters.map((filter) => [filter.label, found[filter.label]]);
    return named.filter(([, bucket]) => bucket).flatMap(([key, bucket]) => walk(bucket, depth + 1, [...keys, label(agg, key)], bucket.doc_count));
  };
  return walk(answer.aggregations ?? {}, 0, [], answer.hits.total.value);
}

const thousands = (number) => Number(number).toLocaleString('en-US');
const date = (time) => new Date(time).toISOString().slice(0, 16).replace('T', ' ');
const isTime = (agg) => agg.params.field === '@timestamp' && agg.type !== 'cardinality';
const shown = (agg, value) => (isTime(agg) ? date(value) : thousands(value));
const escape = (text) => String(text).replace(/[&<>"]/g, (it) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[it]);

// Charts, through Vega-Lite.

const CONFIG = {
  background: null, font: FONT, view: { stroke: null },
  axis: { labelColor: '#69707D', titleColor: '#69707D', titleFontWeight: 500, gridColor: '#EEF1F5', domainColor: '#D3DAE6', tickColor: '#D3DAE6', labelFontSize: 11, titleFontSize: 11 },
  legend: { orient: 'bottom', title: null, labelColor: INK, labelFontSize: 11, symbolType: 'circle', symbolSize: 70, labelLimit: 180 },
};

function palette(panel, labels) {
  const own = panel.colours;
  const free = OKABE_ITO.filter((colour) => !Object.values(own).includes(colour));
  const all = free.length > 0 ? free : OKABE_ITO;
  let next = 0;
  return labels.map((label) => own[label] ?? all[next++ % all.length]);
}

function colour(panel, field, labels) {
  return { field, type: 'nominal', scale: { domain: labels, range: palette(panel, labels) }, legend: labels.length > 1 ? { columns: 5 } : null };
}

function chart(panel, width, height) {
  const { state } = panel;
  const metrics = state.aggs.filter((agg) => agg.schema === 'metric');
  const along = state.aggs.find((agg) => agg.schema === 'segment');
  const split = state.aggs.find((agg) => agg.schema === 'group');
  const time = along.type === 'date_histogram';
  const values = rows(state, panel.answer).flatMap(({ keys, numbers }) => metrics.map((metric, number) => ({
    at: keys[0], to: time ? keys[0] + panel.step : undefined,
    series: split ? keys[1] : metrics.length > 1 || time ? metric.params.customLabel : 'all', number: numbers[number],
  })));
  const totals = new Map();
  for (const { series, number } of values) totals.set(series, (totals.get(series) ?? 0) + number);
  const labels = [...totals.keys()].sort((one, other) => totals.get(other) - totals.get(one));
  const base = { $schema: 'https://vega.github.io/schema/vega-lite/v5.json', data: { values }, width, height, autosize: { type: 'fit', contains: 'padding' }, config: CONFIG };
  if (values.length === 0) return null;
  if (state.type === 'pie') return pie(panel, base, values);
  if (state.type === 'horizontal_bar') return bars(panel, base, along, metrics[0]);
  const percent = state.params.valueAxes[0].scale.mode === 'percentage';
  const title = state.params.valueAxes[0].title.text;
  const x = time
    ? { field: 'at', type: 'temporal', scale: { type: 'utc' }, axis: { title: null, tickCount: 8, grid: false, format: { hours: '%H:%M', minutes: '%H:%M' } } }
    : { field: 'at', type: 'nominal', sort: null, axis: { title: null, labelAngle: 0, grid: false, labelOverlap: false, labelLimit: 110 } };
  const stacked = state.params.seriesParams[0].mode === 'stacked';
  const fill = { value: panel.colours[metrics[0].params.customLabel] ?? OKABE_ITO[0] };
  const color = time ? colour(panel, 'series', labels) : fill;
  const axis = { title, tickCount: 5, format: percent ? '%' : undefined, domain: false, ticks: false };
  for (const value of values) value.rank = labels.indexOf(value.series);
  if (state.type === 'area') {
    const y = { field: 'number', type: 'quantitative', stack: percent ? 'normalize' : 'zero', impute: { value: 0 }, axis };
    return { ...base, mark: { type: 'area', opacity: 0.9 }, encoding: { x, y, color, order: { field: 'rank', type: 'quantitative' } } };
  }
  const y = { field: 'number', type: 'quantitative', stack: null, axis };
  if (state.type === 'line') return { ...base, mark: { type: 'line', point: { size: 18 }, strokeWidth: 2 }, encoding: { x, y, color } };
  if (!time) return { ...base, mark: { type: 'bar' }, encoding: { x, y, color } };
  // A bar reaches over its time, and stands on those before it.
  const reached = new Map();
  for (const value of [...values].sort((one, other) => one.rank - other.rank)) {
    value.from = stacked ? reached.get(value.at) ?? 0 : 0;
    value.number += value.from;
    reached.set(value.at, value.number);
  }
  return { ...base, mark: { type: 'rect', stroke: 'white', strokeWidth: 0.6 }, encoding: { x, x2: { field: 'to' }, y: { ...y, scale: { zero: true } }, y2: { field: 'from' }, color } };
}

function pie(panel, base, values) {
  const labels = values.map(({ at }) => at);
  const total = values.reduce((sum, { number }) => sum + number, 0);
  const radius = Math.min(base.width, base.height - 50) / 2 - 8;
  for (const value of values) value.share = value.number / total < 0.04 ? '' : `${Math.round((100 * value.number) / total)}%`;
  values.forEach((value, rank) => { value.rank = rank; });
  const encoding = { theta: { field: 'number', type: 'quantitative', stack: true }, order: { field: 'rank', type: 'quantitative' } };
  return {
    ...base,
    encoding,
    layer: [
      { mark: { type: 'arc', innerRadius: radius * 0.55, outerRadius: radius, stroke: 'white', strokeWidth: 1.5 }, encoding: { color: { ...colour(panel, 'at', labels), legend: { columns: 3 } } } },
      { mark: { type: 'text', radius: radius * 0.78, fontSize: 12, fontWeight: 600, fill: 'white', stroke: '#00000055', strokeWidth: 0.4 }, encoding: { text: { field: 'share' } } },
    ],
  };
}

function bars(panel, base, along, metric) {
  const fill = panel.colours[metric.params.customLabel] ?? OKABE_ITO[0];
  return {
    ...base,
    mark: { type: 'bar', color: fill, height: Math.min(34, (0.72 * (base.height - 45)) / base.data.values.length) },
    encoding: {
      y: { field: 'at', type: 'nominal', sort: null, axis: { title: null, domain: false, ticks: false, labelLimit: 170 } },
      x: { field: 'number', type: 'quantitative', axis: { title: metric.params.customLabel, tickCount: 4, domain: false } },
    },
  };
}

// Everything else is HTML.

function markdown(text) {
  const inline = (line) => escape(line)
    .replace(/`([^`]+)`/g, '<code>$1</code>')
    .replace(/\*\*([^*]+)\*\*/g, '<b>$1</b>')
    .replace(/\*([^*]+)\*/g, '<i>$1</i>');
  return text.split('\n').filter(Boolean)
    .map((line) => (line.startsWith('### ') ? `<h3>${inline(line.slice(4))}</h3>` : `<p>${inline(line)}</p>`)).join('');
}

function metric(panel) {
  const metrics = panel.state.aggs;
  const [{ numbers }] = rows(panel.state, panel.answer);
  return `<div class="metrics">${metrics.map((agg, number) => `<div><b>${shown(agg, numbers[number])}</b><span>${escape(agg.params.customLabel)}</span></div>`).join('')}</div>`;
}

function table(panel, height) {
  const metrics = panel.state.aggs.filter((agg) => agg.schema === 'metric');
  const buckets = panel.state.aggs.filter((agg) => agg.schema !== 'metric');
  const fit = Math.min(panel.state.params.perPage, Math.floor((height - 30) / 29));
  const head = [...buckets, ...metrics].map((agg) => `<th class="${agg.schema === 'metric' ? 'number' : ''}">${escape(agg.params.customLabel)}</th>`);
  const body = rows(panel.state, panel.answer).slice(0, fit).map(({ keys, numbers }) => {
    const cells = [...keys.map((key) => `<td>${escape(key)}</td>`), ...numbers.map((value, number) => `<td class="number">${shown(metrics[number], value)}</td>`)];
    return `<tr>${cells.join('')}</tr>`;
  });
  return `<table><tr>${head.join('')}</tr>${body.join('')}</table>`;
}

const dotted = (source, path) => path.split('.').reduce((value, name) => value?.[name], source);

function list(panel, height) {
  const fit = Math.floor((height - 30) / 29);
  const head = ['Time', ...panel.columns].map((name) => `<th>${escape(name)}</th>`);
  const body = panel.answer.hits.hits.slice(0, fit).map(({ _source }) => {
    const cells = panel.columns.map((name) => `<td>${escape([dotted(_source, name) ?? '-'].flat().join(', '))}</td>`);
    return `<tr><td class="time">${date(_source['@timestamp'])}</td>${cells.join('')}</tr>`;
  });
  return `<table class="list"><tr>${head.join('')}</tr>${body.join('')}</table>`;
}

async function content(panel, width, height, warnings) {
  switch (panel.kind) {
    case 'markdown': return markdown(panel.state.params.markdown);
    case 'metric': return metric(panel);
    case 'table': return table(panel, height);
    case 'search': return list(panel, height);
    case 'vega': return (await draw(vega, { ...answered(panel), config: { axis: CONFIG.axis, legend: { labelColor: INK, titleColor: '#69707D', labelFont: FONT, titleFont: FONT } } }, width, height, warnings)).svg;
    default: {
      const specification = chart(panel, width, height);
      if (!specification) return '<p class="none">No results found</p>';
      const logger = keeper(warnings);
      const compiled = lite.compile(specification, { logger }).spec;
      return (await draw(vega, compiled, 0, 0, warnings)).svg;
    }
  }
}

const STYLE = `
  * { box-sizing: border-box; } body { margin: 0; background: #F7F8FC; font: 13px ${FONT}; color: ${INK}; position: relative; }
  header { position: absolute; left: 8px; right: 8px; top: 0; height: 44px; display: flex; align-items: center; justify-content: space-between; }
  header b { font-size: 18px; } header span { color: #69707D; font-size: 12px; }
  section { position: absolute; background: white; border: 1px solid #E3E8F2; border-radius: 6px; padding: 8px 12px; overflow: hidden; }
  section > h2 { font-size: 13px; margin: 0 0 6px; font-weight: 600; white-space: nowrap; }
  h3 { font-size: 16px; margin: 0 0 6px; } p { margin: 0 0 6px; line-height: 1.45; } code { background: #F0F2F7; border-radius: 3px; padding: 0 3px; font-size: 12px; }
  .metrics { display: flex; justify-content: space-around; height: calc(100% - 24px); align-items: center; text-align: center; }
  .metrics b { display: block; font-size: 34px; font-weight: 600; } .metrics span { color: #69707D; }
  table { border-collapse: collapse; width: 100%; font-size: 12px; } th { text-align: left; border-bottom: 1px solid #D3DAE6; font-weight: 600; }
  th, td { padding: 0 10px 0 2px; height: 29px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; max-width: 260px; } td { border-bottom: 1px solid #EEF1F5; }
  .number { text-align: right; } .list td { max-width: 170px; } .time { color: #69707D; } .none { color: #69707D; text-align: center; margin-top: 60px; } svg { display: block; }`;

const [COLUMN, ROW, GAP, TOP] = [33, 20, 8, 44];

async function pictures(dashboards, folder) {
  mkdirSync(folder, { recursive: true });
  const results = [];
  for (const dashboard of dashboards) {
    const warnings = [];
    const sections = [];
    let bottom = 0;
    for (const panel of dashboard.panels) {
      const { x, y, w, h } = panel.place;
      const box = { left: x * COLUMN + GAP, top: TOP + y * (ROW + GAP), width: w * COLUMN - GAP, height: h * (ROW + GAP) - GAP };
      bottom = Math.max(bottom, box.top + box.height);
      const inner = await content(panel, box.width - 26, box.height - 42, warnings);
      const style = Object.entries(box).map(([name, value]) => `${name}:${value}px`).join(';');
      sections.push(`<section style="${style}"><h2>${escape(panel.title)}</h2>${inner}</section>`);
    }
    const [width, height] = [48 * COLUMN + GAP, bottom + GAP];
    const [from, to] = dashboard.panels[0].range.map(date);
    const note = `${from} to ${to} · a rendering by the project, with made-up events; each program draws it in its own style`;
    const page = `<!doctype html><meta charset="utf-8"><title>${escape(dashboard.title)}</title><style>${STYLE} body { width: ${width}px; height: ${height}px; }</style><header><b>${escape(dashboard.title)}</b><span>${note}</span></header>${sections.join('\n')}`;
    writeFileSync(join(folder, `${dashboard.id}.html`), page);
    results.push({ id: dashboard.id, width, height, warnings, panels: sections.length, broken: /NaN|Infinity|undefined/.test(page) });
  }
  console.log(JSON.stringify(results));
}

const dashboards = JSON.parse(readFileSync(0, 'utf8'));
const [what, folder] = process.argv.slice(2);
await (what === 'vega' ? vegas(dashboards) : pictures(dashboards, folder));
