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

  const LISTS = [
    ['url.full', 'Pages'], ['pixel.code', 'Codes seen'], ['campaign.source', 'Sources'], ['campaign.name', 'Campaigns'],
    ['referrer.domain', 'Came from'], ['client.geo.country_iso_code', 'Countries'], ['user_agent.name', 'Browsers and programs'],
    ['user_agent.os.name', 'Systems'], ['user_agent.device.type', 'Devices'], ['event.action', 'Actions'],
  ];
  const CLASSES = [['human', 'people'], ['privacy_proxy', 'privacy proxies'], ['automation', 'automation'], ['prefetch', 'prefetch']];
  const SHOWN = 10;
  const LATEST = 50;

  // Elements.

  const element = (name, attributes, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
      else if (value === true) made.setAttribute(key, '');
      else if (value !== false && value != null) made.setAttribute(key, value);
    }
    made.append(...children.filter(child => child != null));
    return made;
  };
  const fill = (id, ...children) => $(id).replaceChildren(...children);
  const show = (id, visible) => { $(id).hidden = !visible; };
  const number = value => value.toLocaleString();
  const percent = (part, whole) => whole ? (100 * part / whole).toLocaleString(undefined, { maximumFractionDigits: 1 }) + ' %' : '–';
  const moment = text => new Date(text).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
  const at = (object, path) => path.split('.').reduce((value, name) => value == null ? undefined : value[name], object);

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
    if (path.startsWith('/code/')) {
      try {
        code = decodeURIComponent(path.slice(6)) || null;
      } catch (error) {
        code = null;
      }
    }
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
    drawTotals(answer);
    drawSeries(answer.series || []);
    const { by } = await lists;
    if (!still()) return;
    fields.forEach(([field, title], place) => drawList(field, title, by[place].values, answer.totals.events));
    const empty = answer.totals.events === 0 && !state.filters.length && !state.visits && (state.since === 'all' || await nothing());
    if (!still()) return;
    show('empty', empty);
    show('numbers', !empty);
  };

  const nothing = async () => {
    const parameters = new URLSearchParams({ since: 'all', limit: 1 });
    if (state.code !== null) parameters.append('filter', 'pixel.code=' + state.code);
    return (await json('events?' + parameters)).events.length === 0;
  };

  const card = (title, value, note) => element('div', {}, element('dt', {}, title), element('dd', {}, value), note && element('dd', { class: 'quiet' }, note));

  const change = (now, before) => {
    if (!before) return now ? 'none in the period before' : null;
    const share = Math.round(100 * (now - before) / before);
    return (share > 0 ? '+' : '') + number(share) + ' % of the period before';
  };

  const drawTotals = ({ totals, classes, previous }) => {
    fill('totals',
      card('Hits', number(totals.events), previous && change(totals.events, previous.events)),
      card('Visitors', totals.uniques || !totals.events ? number(totals.uniques) : '–', previous && change(totals.uniques, previous.uniques)),
      card('First', totals.first ? moment(totals.first) : '–'),
      card('Last', totals.last ? moment(totals.last) : '–'));
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

  let drawn = [];
  const drawSeries = points => {
    drawn = points;
    const rows = points.map(({ start, events, uniques }) => element('tr', {},
      element('th', { scope: 'row' }, moment(start)),
      element('td', { class: 'number' }, number(events)),
      element('td', { class: 'number' }, number(uniques))));
    fill('series-rows', ...rows);
    const data = [
      points.map(({ start }) => new Date(start) / 1000),
      points.map(({ events }) => events),
      points.map(({ uniques }) => uniques),
    ];
    // Half a point's width beside the first and the last one.
    const width = data[0].length > 1 ? data[0][1] - data[0][0] : 3600;
    if (plot) plot.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = name => style.getPropertyValue('--' + name).trim();
    const axis = { stroke: colour('quiet'), grid: { stroke: colour('line'), width: 1 }, ticks: { stroke: colour('line'), width: 1 } };
    plot = new uPlot({
      width: Math.max($('series').clientWidth, 200),
      height: 240,
      legend: { show: false },
      cursor: { drag: { x: false, y: false } },
      scales: { x: { range: (_, low, high) => [low - width / 2, high + width / 2] }, y: { range: (_, low, high) => [0, Math.max(high, 1) * 1.05] } },
      axes: [axis, { ...axis, size: 60, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 1e7, 1e8] }],
      series: [
        {},
        { label: 'Hits', stroke: colour('link'), fill: colour('bar'), width: 1, paths: uPlot.paths.bars({ size: [.8, 40] }), points: { show: false } },
        { label: 'Visitors', stroke: colour('human'), width: 2, points: { show: points.length < 40 } },
      ],
      hooks: {
        setCursor: [({ cursor }) => {
          const point = points[cursor.idx];
          $('series-point').textContent = point ? `${moment(point.start)}: ${number(point.events)} hits, ${number(point.uniques)} visitors` : '\u00a0';
        }],
      },
    }, data, $('series'));
  };

  const drawList = (field, title, values, whole) => {
    const id = 'list-' + field.replace(/\./g, '-');
    const most = values.length ? values[0].events : 0;
    const items = values.map(({ value, events }) => {
      const bar = element('i', {});
      bar.style.width = 100 * events / most + '%';
      const text = value === '' ? '(empty)' : value.replace(/^https?:\/\//, '');
      const parts = [element('span', { title: value }, text), element('span', { class: 'number' }, `${number(events)} · ${percent(events, whole)}`)];
      const one = field + '=' + value;
      const pressed = state.filters.includes(one);
      return element('li', {}, bar, element('button', { type: 'button', 'aria-pressed': String(pressed), onclick: () => toggle(one) }, ...parts));
    });
    const made = element('section', { id, 'aria-labelledby': id + '-title' },
      element('h3', { id: id + '-title' }, title),
      items.length ? element('ol', {}, ...items) : element('p', { class: 'quiet' }, 'none'));
    const place = LISTS.findIndex(([known]) => known === field);
    // What has the focus keeps it.
    const focused = document.activeElement && document.activeElement.closest('#lists section') ? document.activeElement.textContent : null;
    const old = $(id);
    if (old) old.replaceWith(made);
    else {
      const after = [...$('lists').children].find(child => Number(child.dataset.place) > place);
      $('lists').insertBefore(made, after || null);
    }
    made.dataset.place = place;
    if (focused && !document.activeElement.closest('#lists section')) {
      const again = [...made.querySelectorAll('button')].find(button => button.textContent === focused);
      if (again) again.focus();
    }
  };

  const toggle = one => {
    const filters = state.filters.includes(one) ? state.filters.filter(known => known !== one) : [...state.filters, one];
    go({ filters });
  };

  const drawFilters = () => {
    show('filters', state.filters.length > 0);
    fill('filters', ...state.filters.map(one => element('li', {},
      element('button', { type: 'button', 'aria-label': 'Remove the filter ' + one, onclick: () => toggle(one) }, one + ' ✕'))));
  };

  // Events as they come.

  const seen = new Set();
  let oldest = null;

  const row = (event, fresh) => {
    const visit = at(event, 'visit.class') || '';
    const title = (CLASSES.find(([name]) => name === visit) || [, visit || '–'])[1];
    const reasons = (at(event, 'visit.reasons') || []).join(', ');
    const code = at(event, 'pixel.code');
    const what = at(event, 'url.full') || at(event, 'user_agent.original') || '–';
    return element('tr', { class: fresh && 'fresh' },
      element('td', {}, element('time', { datetime: event['@timestamp'] }, moment(event['@timestamp']))),
      element('td', {}, at(event, 'event.action') || '–'),
      element('td', { title: reasons }, element('span', { class: 'swatch ' + (CLASSES.some(([name]) => name === visit) ? visit : 'other') }), title),
      element('td', {}, code ? element('a', { href: '#/code/' + encodeURIComponent(code) }, code) : '–'),
      element('td', { title: what }, what),
      element('td', {}, at(event, 'client.ip') || '–'));
  };

  const isNew = event => {
    const id = at(event, 'event.id');
    if (seen.has(id)) return false;
    seen.add(id);
    return true;
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
      const times = [...$('live').rows].sort((left, right) => right.querySelector('time').dateTime.localeCompare(left.querySelector('time').dateTime));
      $('live').append(...times);
    }
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
          const { done, value } = await reader.read();
          if (done || mine !== generation) break;
          text += value;
          const messages = text.split('\n\n');
          text = messages.pop();
          for (const message of messages) received(message, mine);
        }
      } catch (error) {
        if (mine !== generation || error.name === 'AbortError') return;
        if (error.status === 401 || error.status === 403) return failed(error, 'hits');
        if (error instanceof Problem) trouble(error.message, 'hits');
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
    arrived(JSON.parse(data));
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

  const paste = (forms, code) => forms.map(({ form, place, coded, plain }) => {
    const text = (code === null ? plain : coded.replaceAll('CODE-OF-THE-PIXEL', encode(code))).replaceAll('https://pixel.invalid', base);
    const pre = element('pre', {}, text);
    const copy = element('button', {
      type: 'button', 'aria-label': 'Copy the line for ' + form, onclick: async () => {
        try {
          await navigator.clipboard.writeText(text);
          copy.textContent = 'Copied';
        } catch (error) {
          getSelection().selectAllChildren(pre);
        }
      },
    }, 'Copy');
    return element('div', { class: 'paste', 'data-form': form }, element('p', {}, element('b', {}, form), ': ' + place), pre, copy);
  });

  let moreCodes = null;
  const codes = async after => {
    const parameters = new URLSearchParams({ limit: 50 });
    if (after) parameters.set('after', after);
    const mine = generation;
    const answer = await json('codes?' + parameters);
    if (mine !== generation) return;
    const rows = answer.codes.map(one => element('tr', {},
      element('th', { scope: 'row' }, element('a', { href: '#/code/' + encodeURIComponent(one.code) }, one.code)),
      element('td', {}, one.campaign || '–'), element('td', { title: one.note }, one.note || '–'),
      element('td', {}, moment(one.created_at)), element('td', {}, one.revoked_at ? 'revoked' : 'in use')));
    if (after) $('code-rows').append(...rows);
    else fill('code-rows', ...rows);
    moreCodes = answer.next;
    show('more-codes', !!moreCodes);
  };

  const about = async () => {
    show('about', state.code !== null);
    show('codes', state.code === null);
    document.title = state.code === null ? 'pixel' : state.code + ' – pixel';
    if (state.code === null) return;
    $('about-title').textContent = 'Code ' + state.code;
    fill('about-facts');
    $('about-lines').replaceChildren($('about-lines').firstElementChild, ...paste(SNIPPETS, state.code));
    const mine = generation;
    const fact = (name, value) => value ? [element('dt', {}, name), element('dd', {}, value)] : [];
    let known;
    try {
      known = await json('codes/' + encodeURIComponent(state.code));
    } catch (error) {
      if (error.status !== 404) throw error;
      known = null;
    }
    if (mine !== generation) return;
    if (known === null) {
      fill('about-facts', ...fact('List', 'it is not in the list of codes; its hits are counted all the same'));
      return;
    }
    const revoke = element('button', {
      type: 'button', onclick: async () => {
        try {
          await json('codes/' + encodeURIComponent(state.code), { method: 'DELETE' });
          await about();
        } catch (error) {
          failed(error);
        }
      },
    }, 'It is no longer wanted');
    fill('about-facts', ...fact('Campaign', known.campaign), ...fact('Note', known.note), ...fact('Made', moment(known.created_at)),
      ...(known.revoked_at ? fact('Revoked', moment(known.revoked_at)) : [element('dt', {}, 'State'), element('dd', {}, 'in use ', revoke)]));
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
      fill('made', element('h3', {}, 'The code is ', element('a', { href: '#/code/' + encodeURIComponent(made.code) }, made.code)), ...paste(SNIPPETS, made.code));
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
      return signInAndBegin(decodeURIComponent(token[1]));
    }
    generation++;
    if (follower) follower.abort();
    troubles.clear();
    trouble('');
    const mine = generation;
    state = read();
    for (const [id, value] of [['since', state.since], ['class', state.visits]]) $(id).value = value;
    drawFilters();
    seen.clear();
    fill('live');
    fill('lists');
    show('older', false);
    if (!sessionStorage.getItem(TOKEN)) {
      // There may be a session, or the server may let everybody in.
      return json('codes?limit=1').then(() => enterBoard(mine), failed);
    }
    return enterBoard(mine);
  };

  const enterBoard = mine => {
    if (mine !== generation) return;
    show('enter', false);
    show('board', true);
    signedIn = true;
    show('leave', true);
    fill('empty-lines', ...paste(SNIPPETS.filter(({ form }) => form === 'html'), state.code));
    numbers();
    follow(mine).catch(failed);
    persist(about, 'about');
    if (state.code === null) persist(codes, 'codes');
  };

  $('enter').addEventListener('submit', event => {
    event.preventDefault();
    const token = $('token').value.trim();
    $('token').value = '';
    signInAndBegin(token);
  });
  document.querySelector('.skip').addEventListener('click', event => {
    // The address after `#` is the page's own.
    event.preventDefault();
    $('main').focus();
  });
  $('leave').addEventListener('click', signOut);
  $('since').addEventListener('change', () => go({ since: $('since').value }));
  $('class').addEventListener('change', () => go({ visits: $('class').value }));
  $('older').addEventListener('click', () => latest(oldest, generation).catch(failed));
  $('more-codes').addEventListener('click', () => codes(moreCodes).catch(failed));
  $('try').addEventListener('click', () => { new Image().src = base + '/pixel.gif?action=test'; });
  addEventListener('hashchange', begin);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { if (plot) drawSeries(drawn); });
  new ResizeObserver(() => { if (plot) plot.setSize({ width: Math.max($('series').clientWidth, 200), height: 240 }); }).observe($('series'));
  begin();
})();
