// The page of `pixel serve`: asks the API of the same server, and shows what it says. Texts of visitors become text nodes
// and nothing else.
'use strict';
(() => {
  const $ = id => document.getElementById(id);
  const base = location.origin + location.pathname.replace(/\/$/, '');
  const api = base + '/v1/api/';
  // Kept in the tab only where the server has no sessions, as the function has none.
  const TOKEN = 'pixel-token';

  // What stands in the address: the code's own page or all, the period, the class and the filters.
  let state;
  let generation = 0;
  let plot;
  let follower;

  // The field by which pages are listed: the address without its query and fragment.
  const PAGE = 'page';
  const COUNTRY = 'client.geo.country_iso_code';
  // Field, title, title of a single value, and what an empty list says.
  const LISTS = [
    [PAGE, 'Pages', 'Page', 'No pages yet. Put the image or the script into a web page.'],
    ['pixel.code', 'Codes seen', 'Code', 'No codes yet. A code is the word in the image\'s address, as in `/pixel/spring-mail.gif`.'],
    ['campaign.source', 'Sources', 'Source', 'No sources yet. Add `utm_source` to the address of the image or of the page.'],
    ['campaign.name', 'Campaigns', 'Campaign', 'No campaigns yet. Give a code a campaign, or add `utm_campaign` to the address.'],
    ['referrer.domain', 'Came from', 'Came from'],
    [COUNTRY, 'Countries', 'Country', 'No countries known. Set `PIXEL_GEO_FILE`, or let the network edge send them.'],
    ['user_agent.name', 'Browsers and programs', 'Program'],
    ['user_agent.os.name', 'Systems', 'System'], ['user_agent.device.type', 'Devices', 'Device'], ['event.action', 'Actions', 'Action'],
  ];
  const NO_VALUES = 'None in this period.';
  const CLASSES = [['human', 'people'], ['privacy_proxy', 'mail proxies'], ['automation', 'automated'], ['prefetch', 'prefetch']];
  const SHOWN = 10;
  const SHOWN_ON_PHONE = 5;
  const LATEST = 50;
  // A change is shown only against at least this many hits.
  const MIN_BASE = 20;
  // A plot of all time has at least this many slots.
  const MIN_SLOTS = 24;

  // Elements.

  const element = (name, attributes, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
      else if (value === true) made.setAttribute(key, '');
      else if (value !== false && value != null) made.setAttribute(key, value);
    }
    made.append(...children.filter(child => child != null && child !== false));
    return made;
  };
  const fill = (id, ...children) => $(id).replaceChildren(...children);
  const show = (id, visible) => { $(id).hidden = !visible; };
  const number = value => value.toLocaleString();
  const percent = (part, whole) => whole ? (100 * part / whole).toLocaleString(undefined, { maximumFractionDigits: 1 }) + ' %' : '–';
  const timeFormat = options => {
    const format = new Intl.DateTimeFormat(undefined, options);
    return value => {
      const time = new Date(value);
      return isNaN(time) ? '–' : format.format(time);
    };
  };
  const moment = timeFormat({ dateStyle: 'medium', timeStyle: 'medium' });
  const date = timeFormat({ dateStyle: 'medium' });
  const clock = timeFormat({ timeStyle: 'short' });
  const dateAndClock = timeFormat({ month: 'short', day: 'numeric', hour: 'numeric', minute: '2-digit' });
  const month = timeFormat({ month: 'long', year: 'numeric' });
  // Short where the reader knows the rest: the time of today, the day of this year.
  const shortTime = value => {
    const [time, now] = [new Date(value), new Date()];
    if (time.toDateString() === now.toDateString()) return clock(value);
    return time.getFullYear() === now.getFullYear() ? dateAndClock(value) : date(value);
  };
  const at = (object, path) => path.split('.').reduce((value, name) => value == null ? undefined : value[name], object);
  // A field of an event as a text. Events come from many sources: a field may have any type, or be missing.
  const textAt = (object, path) => {
    const value = at(object, path);
    const texts = (Array.isArray(value) ? value : [value]).filter(one => ['string', 'number', 'boolean'].includes(typeof one));
    return texts.join(', ') || undefined;
  };
  const decode = text => {
    try {
      return decodeURIComponent(text);
    } catch (error) {
      return null;
    }
  };
  // A sentence whose parts in backticks are code.
  const prose = text => text.split('`').map((part, place) => place % 2 ? element('code', {}, part) : part);

  let countries;
  try {
    countries = new Intl.DisplayNames(undefined, { type: 'region' });
  } catch (error) {
    // The codes are shown.
  }
  const displayValue = (field, value) => {
    if (value === '') return '(empty)';
    if (field === COUNTRY && countries && /^[A-Z]{2}$/.test(value)) return countries.of(value);
    return value.replace(/^https?:\/\//, '');
  };
  const singular = field => (LISTS.find(([known]) => known === field) || [, , field])[2];

  // What is wrong now, by what was tried.
  const troubles = new Map();
  const trouble = (text, of = 'page') => {
    if (text) troubles.set(of, text);
    else troubles.delete(of);
    $('trouble').textContent = [...new Set(troubles.values())].join('; ');
    show('trouble', troubles.size > 0);
  };

  // The address.

  const read = () => {
    const [path, query] = location.hash.slice(1).split('?');
    const parameters = new URLSearchParams(query || '');
    let code = null;
    if (path.startsWith('/code/')) code = decode(path.slice(6)) || null;
    return {
      code,
      since: parameters.get('since') || (code === null ? '30d' : 'all'),
      visits: parameters.get('class') || '',
      filters: parameters.getAll('filter'),
    };
  };

  const address = changed => {
    const next = { ...state, ...changed };
    const parameters = new URLSearchParams();
    if (next.since !== (next.code === null ? '30d' : 'all')) parameters.set('since', next.since);
    if (next.visits) parameters.set('class', next.visits);
    next.filters.forEach(filter => parameters.append('filter', filter));
    const query = String(parameters);
    return '#/' + (next.code === null ? '' : 'code/' + encodeURIComponent(next.code)) + (query ? '?' + query : '');
  };

  const go = changed => { location.hash = address(changed); };

  // Asking.

  class Problem extends Error {
    constructor(status, body) {
      super(body.detail || body.title || 'status ' + status);
      this.status = status;
      this.parameter = body.parameter;
    }
  }

  const headers = more => {
    const token = sessionStorage.getItem(TOKEN);
    return { ...(token ? { Authorization: 'Bearer ' + token } : {}), ...more };
  };

  const ask = async (path, options) => {
    let answer;
    try {
      answer = await fetch(api + path, { cache: 'no-store', ...options, headers: headers(options && options.headers) });
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Problem(0, { detail: 'the server cannot be reached' });
    }
    if (!answer.ok) {
      const body = await answer.json().catch(() => ({}));
      throw new Problem(answer.status, body);
    }
    return answer;
  };
  const json = async (path, options) => (await ask(path, options)).json();

  // Exchanges a token, or the secret of a link, for the cookie of a session.
  const signIn = async token => {
    sessionStorage.removeItem(TOKEN);
    try {
      await ask('session', { method: 'POST', headers: { Authorization: 'Bearer ' + token } });
    } catch (error) {
      if (error.status === 401) throw new Problem(401, { detail: 'This token or link is not known, or not any more; pixel login prints a new link.' });
      if (error.status !== 404 && !passes(error)) throw error;
      sessionStorage.setItem(TOKEN, token);
    }
  };

  const signOut = async () => {
    try {
      if (!sessionStorage.getItem(TOKEN)) await ask('session', { method: 'DELETE' });
      signedIn = false;
      enter('');
    } catch (error) {
      failed(error);
    }
  };

  // Whether this page has been let in.
  let signedIn = false;

  // What went wrong, once for all questions of a moment.
  const failed = (error, of) => {
    if (error.name === 'AbortError') return;
    if (error.status === 401) {
      enter(sessionStorage.getItem(TOKEN) ? 'This token is not known, or not any more.' : signedIn ? 'You are not signed in any more.' : '');
      return;
    }
    trouble(error.message, of);
  };

  const enter = why => {
    // Of several questions that were refused at once, the first has said it.
    if (!$('enter').hidden) return;
    sessionStorage.removeItem(TOKEN);
    generation++;
    if (follower) follower.abort();
    troubles.clear();
    trouble(why);
    show('board', false);
    show('leave', false);
    show('enter', true);
    $('token').focus();
  };

  const filter = () => {
    const parameters = new URLSearchParams();
    parameters.set('since', state.since);
    if (state.visits) parameters.set('class', state.visits);
    state.filters.forEach(one => parameters.append('filter', one));
    if (state.code !== null) parameters.append('filter', 'pixel.code=' + state.code);
    return parameters;
  };

  const HOUR = 3600e3;
  const interval = span => span <= 3 * HOUR ? 'minute' : span <= 73 * HOUR ? 'hour' : span <= 190 * 24 * HOUR ? 'day' : span <= 3 * 366 * 24 * HOUR ? 'week' : 'month';

  // Everything that has numbers.

  const refresh = async () => {
    const mine = generation;
    const still = () => mine === generation;
    const question = filter();
    const totals = new URLSearchParams(question);
    const spans = { '24h': 24, '7d': 168, '30d': 720, '90d': 2160, '365d': 8760 };
    const fields = LISTS.filter(([field]) => !(state.code !== null && field === 'pixel.code'));
    const values = new URLSearchParams(question);
    fields.forEach(([field]) => values.append('by', field));
    values.set('limit', SHOWN);
    values.set('unique', 'none');
    // All lists in one question: the store goes over its events once. Its failure is told where it is awaited.
    const lists = json('stats?' + values);
    lists.catch(() => {});
    let answer;
    if (spans[state.since]) {
      totals.set('compare', 'true');
      totals.set('interval', interval(spans[state.since] * HOUR));
      totals.set('zone', zone);
      answer = await json('stats?' + totals);
    } else {
      const quick = new URLSearchParams(question);
      quick.set('unique', 'none');
      const { first, last } = (await json('stats?' + quick)).totals;
      if (first) {
        totals.set('interval', interval(new Date(last) - new Date(first)));
        totals.set('zone', zone);
      }
      answer = await json('stats?' + totals);
    }
    if (!still()) return;
    const compared = answer.previous && answer.previous.events >= MIN_BASE && await hasTwoPeriods(answer.from, spans[state.since] * HOUR);
    if (!still()) return;
    drawTotals(answer, compared);
    drawSeries(answer.series || [], totals.get('interval'));
    const { by } = await lists;
    if (!still()) return;
    fields.forEach(([field, title], place) => drawList(field, title, by[place].values, answer.totals.events));
    const empty = answer.totals.events === 0 && !state.filters.length && !state.visits && (state.since === 'all' || await nothing());
    if (!still()) return;
    show('empty', empty);
    show('numbers', !empty);
    $('board').style.minHeight = '';
  };

  // Returns true if events reach back to before the period before, so that this one is whole.
  const hasTwoPeriods = async (from, span) => {
    const before = new Date(new Date(from) - span).toISOString();
    const { events } = await json('events?' + new URLSearchParams({ since: 'all', to: before, limit: 1 })).catch(() => ({ events: [] }));
    return events.length > 0;
  };

  const nothing = async () => {
    const parameters = new URLSearchParams({ since: 'all', limit: 1 });
    if (state.code !== null) parameters.append('filter', 'pixel.code=' + state.code);
    return (await json('events?' + parameters)).events.length === 0;
  };

  const card = (title, value, note) => element('div', {}, element('dt', {}, ...[title].flat()), element('dd', {}, value), note && element('dd', { class: 'quiet' }, note));

  const change = (now, before) => {
    if (!before) return null;
    const share = Math.round(100 * (now - before) / before);
    return (share > 0 ? '+' : '') + number(share) + ' % from the period before';
  };

  const drawTotals = ({ totals, classes, previous }, compared) => {
    const explain = () => element('button', { type: 'button', class: 'ask', popovertarget: 'about-visitors', 'aria-label': 'What are daily visitors?' }, '?');
    const focused = $('totals').contains(document.activeElement);
    fill('totals',
      card('Hits', number(totals.events), compared && change(totals.events, previous.events)),
      card(['Daily visitors ', explain()], totals.uniques || !totals.events ? number(totals.uniques) : '–', compared && change(totals.uniques, previous.uniques)),
      card('First', totals.first ? date(totals.first) : '–', totals.first && clock(totals.first)),
      card('Last', totals.last ? date(totals.last) : '–', totals.last && clock(totals.last)));
    if (focused) $('totals').querySelector('button').focus();
    const known = CLASSES.map(([name, title]) => [name, title, (classes.find(({ value }) => value === name) || { events: 0 }).events]);
    const rest = totals.events - known.reduce((sum, [, , events]) => sum + events, 0);
    const shares = [...known, ['other', 'not classed', rest]].filter(([name, , events]) => events > 0 || name === 'human');
    const said = shares.map(([, title, events]) => title + ' ' + percent(events, totals.events)).join(', ');
    $('share').setAttribute('aria-label', 'Shares: ' + said);
    fill('share', ...shares.map(([name, , events]) => {
      const part = element('i', { class: name });
      part.style.width = (totals.events ? 100 * events / totals.events : 0) + '%';
      return part;
    }));
    fill('classes', ...shares.map(([name, title, events]) =>
      element('li', {}, element('span', { class: 'swatch ' + name }), `${title} ${percent(events, totals.events)} (${number(events)})`)));
  };

  let zone = 'UTC';
  try {
    zone = Intl.DateTimeFormat().resolvedOptions().timeZone || zone;
  } catch (error) {
    // Some browsers hide it.
  }

  const SECONDS = { minute: 60, hour: 3600, day: 86400, week: 7 * 86400, month: 30 * 86400 };
  const POINT_TIMES = { day: date, week: date, month };

  // Slots without hits before the first point, so that few points do not fill the whole width. Only of all time: any other
  // period has its own begin.
  const padding = (points, width) => {
    if (!points.length || state.since !== 'all') return [];
    const first = new Date(points[0].start).getTime();
    const missing = Math.max(MIN_SLOTS - points.length, 0);
    return Array.from({ length: missing }, (_, place) =>
      ({ start: new Date(first - (missing - place) * width * 1e3).toISOString(), events: 0, uniques: 0 }));
  };

  let drawn = [];
  const drawSeries = (found, interval) => {
    drawn = [found, interval];
    const width = SECONDS[interval] || SECONDS.hour;
    const points = [...padding(found, width), ...found];
    const pointTime = POINT_TIMES[interval] || dateAndClock;
    // Within a day, the ids of visitors do not change.
    const visitors = POINT_TIMES[interval] ? 'Daily visitors' : 'Visitors';
    $('legend-visitors').textContent = visitors;
    $('series-visitors').textContent = visitors;
    const rows = found.map(({ start, events, uniques }) => element('tr', {},
      element('th', { scope: 'row' }, pointTime(start)),
      element('td', { class: 'number' }, number(events)),
      element('td', { class: 'number' }, number(uniques))));
    fill('series-rows', ...rows);
    const data = [
      points.map(({ start }) => new Date(start) / 1000),
      points.map(({ events }) => events),
      points.map(({ uniques }) => uniques),
    ];
    if (plot) plot.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = name => style.getPropertyValue('--' + name).trim();
    const axis = { stroke: colour('quiet'), grid: { stroke: colour('line'), width: 1 }, ticks: { stroke: colour('line'), width: 1 } };
    plot = new uPlot({
      width: Math.max($('series').clientWidth, 200),
      height: 240,
      legend: { show: false },
      cursor: { drag: { x: false, y: false } },
      // Half a slot's width beside the first and the last point.
      scales: { x: { range: (_, low, high) => [low - width / 2, high + width / 2] }, y: { range: (_, low, high) => [0, Math.max(high, 1) * 1.05] } },
      axes: [axis, { ...axis, size: 60, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 1e7, 1e8] }],
      series: [
        {},
        { label: 'Hits', stroke: colour('link'), fill: colour('bar'), width: 1, paths: uPlot.paths.bars({ size: [.8, 40] }), points: { show: false } },
        { label: visitors, stroke: colour('human'), width: 2, points: { show: points.length < 40 } },
      ],
      hooks: {
        setCursor: [({ cursor }) => {
          const point = points[cursor.idx];
          $('series-point').textContent = point ? `${pointTime(point.start)}: ${number(point.events)} hits, ${number(point.uniques)} ${visitors.toLowerCase()}` : '\u00a0';
        }],
      },
    }, data, $('series'));
  };

  // Lists that a reader with a phone has opened.
  const opened = new Set();

  const drawList = (field, title, values, whole) => {
    const id = 'list-' + field.replace(/\./g, '-');
    const most = values.length ? values[0].events : 0;
    const items = values.map(({ value, events }) => {
      const bar = element('i', {});
      bar.style.width = 100 * events / most + '%';
      const parts = [
        element('span', { title: value }, displayValue(field, value)),
        element('span', { class: 'number' }, `${number(events)} · ${percent(events, whole)}`),
      ];
      const one = field + '=' + value;
      const pressed = state.filters.includes(one);
      return element('li', {}, bar, element('button', { type: 'button', 'data-filter': one, 'aria-pressed': String(pressed), onclick: () => toggle(one) }, ...parts));
    });
    const hint = (LISTS.find(([known]) => known === field) || [])[3] || NO_VALUES;
    const made = element('section', { id, 'aria-labelledby': id + '-title' },
      element('h3', { id: id + '-title' }, title),
      items.length ? element('ol', {}, ...items) : element('p', { class: 'quiet' }, ...prose(state.filters.length || state.visits ? NO_VALUES : hint)));
    if (items.length > SHOWN_ON_PHONE) {
      const more = element('button', { type: 'button', class: 'more', 'data-filter': field }, '');
      const draw = () => {
        const open = opened.has(field);
        made.classList.toggle('closed', !open);
        more.setAttribute('aria-expanded', String(open));
        more.textContent = open ? 'Show fewer' : `Show ${items.length - SHOWN_ON_PHONE} more`;
      };
      more.addEventListener('click', () => {
        if (!opened.delete(field)) opened.add(field);
        draw();
      });
      draw();
      made.append(more);
    }
    const place = LISTS.findIndex(([known]) => known === field);
    // What has the focus keeps it.
    const old = $(id);
    const focused = old && old.contains(document.activeElement) ? document.activeElement.dataset.filter : null;
    if (old) old.replaceWith(made);
    else {
      const after = [...$('lists').children].find(child => Number(child.dataset.place) > place);
      $('lists').insertBefore(made, after || null);
    }
    made.dataset.place = place;
    if (focused) {
      const again = [...made.querySelectorAll('button')].find(button => button.dataset.filter === focused);
      (again || made.querySelector('button') || $('lists-title')).focus();
    }
  };

  const toggle = one => {
    const filters = state.filters.includes(one) ? state.filters.filter(known => known !== one) : [...state.filters, one];
    go({ filters });
  };

  const drawFilters = () => {
    show('filters', state.filters.length > 0);
    fill('filters', ...state.filters.map(one => {
      const [, field, not, value] = /^([^=!]*)(!?)=?(.*)$/s.exec(one);
      const said = `${singular(field)}${not ? ' is not' : ''}: ${displayValue(field, value)}`;
      return element('li', {}, element('button', { type: 'button', title: one, 'aria-label': 'Remove the filter ' + said, onclick: () => toggle(one) }, said + ' ✕'));
    }));
  };

  // Events as they come.

  const seen = new Set();
  let oldest = null;

  const cell = (name, attributes, ...children) => element('td', { ...attributes, role: 'cell', class: name }, ...children);
  // A cell with a text; one without is left out where rows are cards.
  const textCell = (name, text, title = text) => text ? cell(name, { title }, text) : cell(name + ' none', {}, '–');

  const eventRow = (event, fresh) => {
    const time = new Date(at(event, '@timestamp'));
    const iso = isNaN(time) ? '' : time.toISOString();
    const visit = textAt(event, 'visit.class') || '';
    const known = CLASSES.find(([name]) => name === visit);
    const code = textAt(event, 'pixel.code');
    const url = textAt(event, 'url.full');
    const agent = textAt(event, 'user_agent.original');
    const [program, system] = [textAt(event, 'user_agent.name'), textAt(event, 'user_agent.os.name')];
    const named = program && system ? `${program} on ${system}` : program;
    return element('tr', { role: 'row', class: fresh && 'fresh', 'data-time': iso },
      cell('time', { title: iso && moment(iso) }, element('time', { datetime: iso || null }, iso ? shortTime(iso) : '–')),
      cell('visit', { title: textAt(event, 'visit.reasons') }, element('span', { class: 'swatch ' + (known ? visit : 'other') }), known ? known[1] : visit || 'not classed'),
      textCell('action', textAt(event, 'event.action')),
      code ? cell('code', { title: code }, element('a', { href: '#/code/' + encodeURIComponent(code) }, code)) : textCell('code'),
      textCell('what', url ? displayValue('url.full', url) : named || agent, url || agent),
      textCell('network', textAt(event, 'client.ip')));
  };

  // One event that cannot be shown takes no other with it.
  const row = (event, fresh) => {
    try {
      return eventRow(event, fresh);
    } catch (error) {
      trouble('a hit cannot be shown: ' + error.message, 'row');
      return element('tr', { role: 'row', 'data-time': '' }, element('td', { role: 'cell', colspan: 6 }, 'This hit cannot be shown.'));
    }
  };

  const isNew = event => {
    const id = textAt(event, 'event.id') || JSON.stringify(event);
    if (seen.has(id)) return false;
    seen.add(id);
    return true;
  };

  const drawLiveEmpty = () => {
    const none = $('live').rows.length === 0;
    show('live-empty', none);
    show('live-scroll', !none);
  };

  const latest = async (after, mine) => {
    const parameters = filter();
    parameters.set('limit', LATEST);
    if (after) parameters.set('after', after);
    const { events, next } = await json('events?' + parameters);
    if (mine !== generation) return;
    const rows = events.filter(isNew).map(event => row(event));
    if (after) $('live').append(...rows);
    else {
      // Those that came by the stream meanwhile are newer.
      $('live').prepend(...rows);
      $('live').append(...[...$('live').rows].sort((left, right) => right.dataset.time.localeCompare(left.dataset.time)));
    }
    drawLiveEmpty();
    oldest = next;
    show('older', !!next);
  };

  // The numbers follow at most once in this many milliseconds.
  const PACE = 1500;
  let due = 0;
  let pending;
  const later = () => {
    if (pending) return;
    pending = setTimeout(() => {
      pending = null;
      due = Date.now() + PACE;
      numbers();
    }, Math.max(due - Date.now(), 0));
  };

  const passes = error => error instanceof Problem && (error.status === 0 || error.status === 429 || error.status >= 500);

  // What fails only for the moment is asked again, ever more rarely, as long as the same is shown.
  const persist = async (question, of) => {
    const mine = generation;
    for (let pause = PACE; mine === generation; pause = Math.min(pause * 2, 30000)) {
      try {
        await question();
        if (mine === generation) trouble('', of);
        return;
      } catch (error) {
        if (mine !== generation) return;
        failed(error, of);
        if (!passes(error)) return;
      }
      await new Promise(resolve => setTimeout(resolve, pause));
    }
  };

  let asking = 0;
  let wanted = false;
  const numbers = async () => {
    const mine = generation;
    wanted = true;
    if (asking === mine) return;
    asking = mine;
    while (wanted && mine === generation) {
      wanted = false;
      await persist(refresh, 'numbers');
    }
    if (asking === mine) asking = 0;
  };

  const arrived = event => {
    if (!isNew(event)) return;
    $('live').prepend(row(event, true));
    drawLiveEmpty();
    while ($('live').rows.length > 500) $('live').lastElementChild.remove();
    const fresh = $('live').firstElementChild;
    setTimeout(() => fresh.classList.remove('fresh'), 3000);
    later();
  };

  // Server-sent events by hand, because an EventSource sends no header.
  const follow = async mine => {
    let pause = 500;
    while (mine === generation) {
      const stream = new AbortController();
      follower = stream;
      try {
        const answer = await ask('events?' + filter(), { headers: { Accept: 'text/event-stream' }, signal: stream.signal });
        if (!(answer.headers.get('content-type') || '').startsWith('text/event-stream')) return poll(mine);
        $('following').textContent = 'as they come';
        await latest(null, mine);
        // A stream opens also while the store is down.
        trouble('', 'hits');
        pause = 500;
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = '';
        for (;;) {
          // A stream that breaks has ended.
          const { done, value } = await reader.read().catch(() => ({ done: true }));
          if (done || mine !== generation) break;
          text += value;
          const messages = text.split('\n\n');
          text = messages.pop();
          for (const message of messages) received(message, mine);
        }
      } catch (error) {
        if (mine !== generation || error.name === 'AbortError') return;
        if (error.status === 401 || error.status === 403) return failed(error, 'hits');
        trouble(error.message, 'hits');
      } finally {
        // Browsers have six connections for a server; one that nobody reads would be kept for ever.
        stream.abort();
      }
      if (mine !== generation) return;
      $('following').textContent = 'not connected; trying again';
      await new Promise(resolve => setTimeout(resolve, pause));
      pause = Math.min(pause * 2, 10000);
    }
  };

  const received = (message, mine) => {
    const lines = message.split('\n');
    const data = lines.filter(line => line.startsWith('data:')).map(line => line.slice(5).trim()).join('\n');
    if (!data) return;
    if (lines.some(line => line.startsWith('event: missed'))) {
      latest(null, mine).catch(failed);
      later();
      return;
    }
    let event;
    try {
      event = JSON.parse(data);
    } catch (error) {
      trouble('a hit cannot be read: ' + error.message, 'row');
      return;
    }
    arrived(event);
  };

  // A server behind which there are many processes sends no stream.
  const poll = async mine => {
    $('following').textContent = 'every few seconds';
    while (mine === generation) {
      await latest(null, mine).catch(failed);
      await new Promise(resolve => setTimeout(resolve, 3000));
    }
  };

  // Codes, and the lines to paste.

  const SNIPPETS = JSON.parse($('snippets').textContent);
  const encode = text => encodeURIComponent(text).replace(/[!'()*]/g, one => '%' + one.charCodeAt(0).toString(16).toUpperCase());

  const pasteLine = ({ form, label, place, coded, plain }, code) => {
    const text = (code === null ? plain : coded.replaceAll('CODE-OF-THE-PIXEL', encode(code))).replaceAll('https://pixel.invalid', publicBase);
    const pre = element('pre', {}, text);
    const copy = element('button', {
      type: 'button', 'aria-label': `Copy the line for: ${label}`, onclick: async () => {
        try {
          await navigator.clipboard.writeText(text);
          copy.textContent = 'Copied';
        } catch (error) {
          getSelection().selectAllChildren(pre);
        }
      },
    }, 'Copy');
    return element('div', { class: 'paste', 'data-form': form }, element('p', {}, element('b', {}, label), ': ' + place), pre, copy);
  };

  const GROUPS = [['web', 'Web page'], ['mail', 'Mail'], ['other', 'Other']];
  let chosenGroup = GROUPS[0][0];
  let tabLists = 0;

  // All lines for a code, in tabs (WAI-ARIA Authoring Practices, "Tabs").
  const pasteTabs = code => {
    const prefix = `lines-${++tabLists}-`;
    const choose = name => {
      chosenGroup = name;
      for (const tab of tabs) {
        const chosen = tab.dataset.group === name;
        tab.setAttribute('aria-selected', String(chosen));
        tab.tabIndex = chosen ? 0 : -1;
      }
      for (const panel of panels) panel.hidden = panel.dataset.group !== name;
    };
    const moves = { ArrowRight: place => place + 1, ArrowLeft: place => place - 1 + GROUPS.length, Home: () => 0, End: () => GROUPS.length - 1 };
    const tabs = GROUPS.map(([name, title], place) => element('button', {
      type: 'button', role: 'tab', id: prefix + 'tab-' + name, 'aria-controls': prefix + name, 'data-group': name, onclick: () => choose(name),
      onkeydown: event => {
        if (!moves[event.key]) return;
        event.preventDefault();
        const next = moves[event.key](place) % GROUPS.length;
        choose(GROUPS[next][0]);
        tabs[next].focus();
      },
    }, title));
    const panels = GROUPS.map(([name]) => element('div', { role: 'tabpanel', id: prefix + name, 'data-group': name, 'aria-labelledby': prefix + 'tab-' + name },
      ...SNIPPETS.filter(({ group }) => group === name).map(form => pasteLine(form, code))));
    choose(chosenGroup);
    return [element('div', { role: 'tablist', 'aria-label': 'Where the line goes' }, ...tabs), ...panels];
  };

  let moreCodes = null;
  const codes = async after => {
    const parameters = new URLSearchParams({ limit: 50 });
    if (after) parameters.set('after', after);
    const mine = generation;
    const answer = await json('codes?' + parameters);
    if (mine !== generation) return;
    const rows = answer.codes.map(one => element('tr', { role: 'row' },
      element('th', { role: 'rowheader', scope: 'row', class: 'code', title: one.code }, element('a', { href: '#/code/' + encodeURIComponent(one.code) }, one.code)),
      textCell('campaign', one.campaign), textCell('what', one.note),
      cell('time', { title: moment(one.created_at) }, shortTime(one.created_at)), cell('state', {}, one.revoked_at ? 'revoked' : 'in use')));
    if (after) $('code-rows').append(...rows);
    else fill('code-rows', ...rows);
    const none = $('code-rows').rows.length === 0;
    show('codes-empty', none);
    show('codes-scroll', !none);
    // Only a signed code can name its recipient.
    show('recipient-field', answer.signing !== false);
    show('recipient-note', answer.signing === false);
    moreCodes = answer.next;
    show('more-codes', !!moreCodes);
  };

  // What a signed code says stands in its events, also where it is not in the list.
  const readSignedCode = async code => {
    const parameters = new URLSearchParams({ since: 'all', limit: 20, filter: 'pixel.code=' + code });
    const { events } = await json('events?' + parameters).catch(() => ({ events: [] }));
    const genuine = events.filter(event => ['valid', 'expired', 'revoked'].includes(at(event, 'pixel.signature')));
    const event = genuine.find(one => at(one, 'pixel.recipient')) || genuine[0];
    const age = at(event, 'pixel.seconds_since_sent');
    const sent = Number.isFinite(age) ? new Date(at(event, '@timestamp')).getTime() - age * 1e3 : null;
    return { campaign: textAt(event, 'pixel.campaign'), recipient: textAt(event, 'pixel.recipient'), sent };
  };

  const about = async () => {
    drawTitle();
    if (state.code === null) return;
    $('about-title').textContent = 'Code ' + state.code;
    fill('about-facts');
    $('about-lines').replaceChildren($('about-lines').firstElementChild, ...pasteTabs(state.code));
    const mine = generation;
    const fact = (name, value) => value ? [element('dt', {}, name), element('dd', {}, value)] : [];
    let known;
    try {
      known = await json('codes/' + encodeURIComponent(state.code));
    } catch (error) {
      if (error.status !== 404) throw error;
      known = await readSignedCode(state.code);
    }
    if (mine !== generation) return;
    const listed = !!known.created_at;
    const revoke = element('button', { type: 'button', class: 'danger', onclick: () => askToRevoke(state.code) }, 'Revoke');
    fill('about-facts', ...fact('Campaign', textAt(known, 'campaign')), ...fact('Recipient (hash)', textAt(known, 'recipient')),
      ...fact('Sent', known.sent && moment(known.sent)), ...fact('Note', textAt(known, 'note')), ...fact('Made', listed && moment(known.created_at)),
      ...fact('Opt-out', known.opted_out === true && 'Its recipient has opted out' + (known.opted_out_at ? ` on ${date(known.opted_out_at)}` : '') + '. New hits of this code are not stored.'),
      ...(known.revoked_at ? fact('Revoked', moment(known.revoked_at))
        : listed ? [element('dt', {}, 'State'), element('dd', {}, 'in use ', revoke)]
          : fact('State', 'not in the list of codes; its hits are counted anyway')));
  };

  // Revoking cannot be undone, so it is asked first.
  const askToRevoke = code => {
    const dialog = $('revoke');
    $('revoke-title').textContent = `Revoke the code ${code}?`;
    $('revoke-yes').onclick = async () => {
      dialog.close();
      try {
        await json('codes/' + encodeURIComponent(code), { method: 'DELETE' });
        await about();
        $('about-title').focus();
      } catch (error) {
        failed(error);
      }
    };
    dialog.showModal();
    $('revoke-no').focus();
  };
  $('revoke-no').addEventListener('click', () => $('revoke').close());

  // What the server says about itself.

  const DISMISSED = 'pixel-dismissed';
  const dismissed = () => (sessionStorage.getItem(DISMISSED) || '').split(' ');

  const drawWarnings = warnings => {
    const shown = warnings.filter(({ code }) => !dismissed().includes(code));
    // A banner that stays is not announced again.
    const old = new Map([...$('warnings').children].map(banner => [banner.dataset.code, banner]));
    fill('warnings', ...shown.map(({ code, message }) => {
      const dismiss = () => {
        sessionStorage.setItem(DISMISSED, [...dismissed(), code].join(' ').trim());
        banner.remove();
        $('main').focus();
      };
      const banner = element('div', { role: 'status', 'data-code': code },
        element('p', {}, element('b', {}, 'Note: '), ...prose(String(message))),
        element('button', { type: 'button', 'aria-label': 'Dismiss this note', onclick: dismiss }, '✕'));
      const same = old.get(code);
      return same && same.textContent === banner.textContent ? same : banner;
    }));
  };

  let publicBase = base;
  const drawTitle = () => {
    const site = new URL(publicBase).host;
    $('site').textContent = site;
    document.title = [state.code, site, 'pixel'].filter(Boolean).join(' – ');
  };

  // Without an answer, the address of the page itself stands in the lines to paste.
  const readStatus = async () => {
    const { public_url, warnings } = await json('status').catch(() => ({}));
    if (typeof public_url === 'string' && URL.canParse(public_url)) {
      const url = new URL(public_url);
      // A server behind a proxy does not know that it is reached over HTTPS; this page does.
      if (url.host === location.host && location.protocol === 'https:') url.protocol = 'https:';
      publicBase = url.href.replace(/\/+$/, '');
    }
    drawWarnings((Array.isArray(warnings) ? warnings : []).filter(one => one && one.code && one.message));
    drawTitle();
  };

  $('make').addEventListener('submit', async event => {
    event.preventDefault();
    const form = event.target;
    const members = {};
    for (const input of form.querySelectorAll('input')) {
      input.removeAttribute('aria-invalid');
      input.removeAttribute('aria-describedby');
      if (input.value.trim()) members[input.name] = input.value.trim();
    }
    show('make-trouble', false);
    try {
      const made = await json('codes', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(members) });
      form.reset();
      fill('made', element('h3', {}, 'The code is ', element('a', { href: '#/code/' + encodeURIComponent(made.code) }, made.code)), ...pasteTabs(made.code));
      await codes();
    } catch (error) {
      if (error.status === 401) return failed(error);
      $('make-trouble').textContent = error.message;
      show('make-trouble', true);
      const input = form.elements[error.parameter];
      if (input) {
        input.setAttribute('aria-invalid', 'true');
        input.setAttribute('aria-describedby', 'make-trouble');
        input.focus();
      }
    }
  });

  // Beginning, and every change of the address.

  // Signs in first, where something is given to do so.
  const signInAndBegin = async token => {
    try {
      await signIn(token);
      begin();
    } catch (error) {
      // Also where the form is open already.
      show('enter', false);
      enter(error.message);
    }
  };

  const begin = () => {
    const token = /^#token=(.+)$/.exec(location.hash);
    if (token) {
      history.replaceState(null, '', location.pathname);
      return signInAndBegin(decode(token[1]) || '');
    }
    generation++;
    if (follower) follower.abort();
    troubles.clear();
    trouble('');
    const mine = generation;
    const before = state;
    state = read();
    arrange(before);
    for (const [id, value] of [['since', state.since], ['class', state.visits]]) $(id).value = value;
    drawFilters();
    seen.clear();
    fill('live');
    show('older', false);
    if (!sessionStorage.getItem(TOKEN)) {
      // There may be a session, or the server may let everybody in.
      return json('codes?limit=1').then(() => enterBoard(mine), failed);
    }
    return enterBoard(mine);
  };

  // Prepares the page for another state. Another code is another page: it begins at its top, with its heading. The same one
  // with other filters stays where it is.
  const arrange = before => {
    const moved = !before || before.code !== state.code;
    $('board').style.minHeight = moved ? '' : $('board').offsetHeight + 'px';
    if (!moved) return;
    fill('lists');
    show('about', state.code !== null);
    show('codes', state.code === null);
    $('about-title').textContent = state.code === null ? '' : 'Code ' + state.code;
    if (!before) return;
    scrollTo(0, 0);
    $(state.code === null ? 'all-title' : 'about-title').focus({ preventScroll: true });
  };

  const enterBoard = mine => {
    if (mine !== generation) return;
    show('enter', false);
    show('board', true);
    signedIn = true;
    show('leave', true);
    numbers();
    follow(mine).catch(failed);
    if (state.code === null) persist(codes, 'codes');
    readStatus().then(() => {
      if (mine !== generation) return;
      fill('empty-lines', pasteLine(SNIPPETS.find(({ form }) => form === 'html'), state.code));
      persist(about, 'about');
    });
  };

  $('enter').addEventListener('submit', event => {
    event.preventDefault();
    const token = $('token').value.trim();
    $('token').value = '';
    signInAndBegin(token);
  });
  for (const skip of document.querySelectorAll('.skip')) {
    skip.addEventListener('click', event => {
      // The address after `#` is the page's own.
      event.preventDefault();
      $(skip.hash.slice(1)).focus();
    });
  }
  $('leave').addEventListener('click', signOut);
  $('since').addEventListener('change', () => go({ since: $('since').value }));
  $('class').addEventListener('change', () => go({ visits: $('class').value }));
  $('older').addEventListener('click', () => latest(oldest, generation).catch(failed));
  $('more-codes').addEventListener('click', () => codes(moreCodes).catch(failed));
  $('try').addEventListener('click', () => { new Image().src = base + '/pixel.gif?action=test'; });
  addEventListener('hashchange', begin);
  addEventListener('unhandledrejection', event => trouble('the page failed: ' + event.reason));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { if (plot) drawSeries(...drawn); });
  new ResizeObserver(() => { if (plot) plot.setSize({ width: Math.max($('series').clientWidth, 200), height: 240 }); }).observe($('series'));
  begin();
})();
