// Page views and events of a web page. No cookies, nothing kept in the browser, nothing that tells visitors apart.
// Served without these comments and without the indentation, so a line begins no text and no comment stands behind code.
((w, d, n, l) => {
  const script = d.currentScript || d.querySelector('script[src*="/pixel.js"]');
  if (!script) return;
  const source = new URL(script.src, l);
  const endpoint = source.origin + source.pathname.replace(/[^/]*$/, 'pixel');

  // The same script twice on a page counts once; the pixel of somebody else gets the events, too.
  const before = w.pixel || 0;
  const seen = before.seen || {};
  if (seen[endpoint]) return;
  seen[endpoint] = 1;

  const here = () => l.href.split('#')[0];
  let page, timer, referrer = d.referrer;
  const image = target => new Image().src = target;

  const send = (action, more) => {
    if (n.globalPrivacyControl || n.doNotTrack == 1) return;
    const query = new URLSearchParams(source.search);
    const width = screen.width;
    new URLSearchParams(l.search).forEach((value, name) => /^utm_/.test(name) && query.set(name, value.slice(0, 200)));
    const add = (members, most) => {
      for (const name in members) {
        const value = members[name];
        if (value != null && value !== '') query.set(name, ('' + value).slice(0, most));
      }
    };
    add(more, 200);
    add({
      action,
      title: d.title,
      language: n.language,
      screen: width < 600 ? 'compact' : width < 840 ? 'medium' : width < 1200 ? 'expanded' : width < 1600 ? 'large' : 'extra-large'
    }, 200);
    add({ url: here(), referrer }, 1000);
    const target = endpoint + '?' + ('' + query).replace(/\+/g, '%20');
    let sent;
    try {
      sent = n.sendBeacon(target);
    } catch (e) {}
    if (!sent) image(target);
  };

  // A beacon that the page's policy forbids counts as sent; the policy may let an image through.
  d.addEventListener('securitypolicyviolation', e => {
    const ours = e.effectiveDirective == 'connect-src' && e.blockedURI.indexOf(endpoint + '?') == 0;
    if (ours && e.disposition == 'enforce') image(e.blockedURI);
  });

  const view = () => {
    page = here();
    send('view');
    referrer = page;
  };

  // After the caller's own work, so that the title is the new page's; of several changes at once the last counts.
  const navigated = () => {
    clearTimeout(timer);
    timer = setTimeout(() => page && here() != page && view());
  };
  ['pushState', 'replaceState'].forEach(name => {
    const original = history[name];
    history[name] = function () {
      const result = original.apply(this, arguments);
      navigated();
      return result;
    };
  });
  w.addEventListener('popstate', navigated);

  // Back from the browser's back/forward cache.
  w.addEventListener('pageshow', e => {
    if (!e.persisted) return;
    referrer = d.referrer;
    view();
  });

  const pixel = w.pixel = (kind, name, more) => {
    if (before.seen) before(kind, name, more);
    if (kind == 'view') view();
    if (kind == 'event') send(('' + name).replace(/[^\w.:-]+/g, '_').slice(0, 64), more);
  };
  pixel.seen = seen;

  const start = () => d.title || d.readyState != 'loading' ? view() : d.addEventListener('DOMContentLoaded', view);
  if (d.prerendering) d.addEventListener('prerenderingchange', start);
  else start();
  (before.q || []).forEach(call => pixel(...call));
})(window, document, navigator, location);
