//! A real Chromium, told what to do over its debugging pipe (Chrome `DevTools` Protocol).
//!
//! Every tab lives until its browser is dropped, which ends the process.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::serving::{PATIENCE, wait_for};
use super::setup::require;

/// The debugging pipe is file descriptors 3 and 4; the shell puts them where a child can be given them.
const START: &str = r#"exec chromium "$@" 3<&0 4>&1 </dev/null >/dev/null"#;

/// Without a window, and without talk to anybody but who is asked.
pub const ALONE: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
];

/// A browser of its own, with an empty profile.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    pipe: Mutex<ChildStdin>,
    said: Arc<(Mutex<Said>, Condvar)>,
    calls: AtomicU64,
    _profile: TempDir,
}

/// What the browser has said.
#[derive(Debug, Default)]
struct Said {
    answers: HashMap<u64, Value>,
    ended: bool,
}

/// Starts a browser.
pub fn browser() -> Browser {
    browser_with(&[])
}

/// Starts a browser with more arguments.
pub fn browser_with(arguments: &[&str]) -> Browser {
    require(&["chromium"]);
    let profile = tempfile::tempdir().expect("a folder can be made");
    let mut child = Command::new("sh")
        .args(["-c", START, "chromium"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(ALONE)
        .args(arguments)
        .args(["--hide-scrollbars", "--remote-debugging-pipe", "about:blank"])
        .env("HOME", profile.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromium starts");
    let pipe = child.stdin.take().expect("stdin is piped");
    let stdout = child.stdout.take().expect("stdout is piped");
    let said = Arc::<(Mutex<Said>, Condvar)>::default();
    let heard = Arc::clone(&said);
    std::thread::spawn(move || {
        for message in BufReader::new(stdout).split(0).map_while(Result::ok) {
            let message: Value = serde_json::from_slice(&message).expect("chromium says JSON");
            if let Some(id) = message.get("id").and_then(Value::as_u64) {
                lock(&heard.0).answers.insert(id, message);
                heard.1.notify_all();
            }
        }
        lock(&heard.0).ended = true;
        heard.1.notify_all();
    });
    Browser {
        child,
        pipe: Mutex::new(pipe),
        said,
        calls: AtomicU64::new(1),
        _profile: profile,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Browser {
    /// A new tab with nothing in it.
    pub fn tab(&self) -> Tab<'_> {
        let target = self.call(None, "Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call(None, "Target.attachToTarget", &attach);
        let tab = Tab {
            browser: self,
            session: attached["sessionId"].as_str().expect("a session").to_owned(),
        };
        tab.call("Page.enable", &json!({}));
        tab
    }

    /// A new tab with this page.
    pub fn open(&self, url: &str) -> Tab<'_> {
        let tab = self.tab();
        tab.go(url);
        tab
    }

    fn call(&self, session: Option<&str>, method: &str, parameters: &Value) -> Value {
        self.try_call(session, method, parameters)
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn try_call(&self, session: Option<&str>, method: &str, parameters: &Value) -> Result<Value, Value> {
        let id = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut line = message.to_string().into_bytes();
        line.push(0);
        lock(&self.pipe).write_all(&line).expect("chromium listens");

        let deadline = Instant::now() + PATIENCE;
        let (said, changed) = &*self.said;
        let mut said = lock(said);
        let mut answer = loop {
            if let Some(answer) = said.answers.remove(&id) {
                break answer;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !said.ended, "no answer to {method}");
            (said, _) = changed.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner);
        };
        match answer.get_mut("error") {
            Some(error) => Err(error.take()),
            None => Ok(answer["result"].take()),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its own way of ending takes its children with it; the second is for when it does not answer.
        let mut close = json!({"id": 0, "method": "Browser.close"}).to_string().into_bytes();
        close.push(0);
        let _ = lock(&self.pipe).write_all(&close);
        let deadline = Instant::now() + PATIENCE / 3;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(PATIENCE / 1000);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A tab.
#[derive(Debug)]
pub struct Tab<'b> {
    browser: &'b Browser,
    session: String,
}

impl Tab<'_> {
    /// Calls a method of the protocol.
    pub fn call(&self, method: &str, parameters: &Value) -> Value {
        self.browser.call(Some(&self.session), method, parameters)
    }

    /// Goes to a page and waits until it is loaded.
    pub fn go(&self, url: &str) {
        let answer = self.call("Page.navigate", &json!({"url": url}));
        assert!(answer.get("errorText").is_none(), "{url}: {answer}");
        self.wait("the page", "document.readyState === 'complete'");
    }

    /// Runs a script before every page's own.
    pub fn before_each_page(&self, script: &str) {
        self.call("Page.addScriptToEvaluateOnNewDocument", &json!({"source": script}));
    }

    /// The value of an expression, of a promise what it promises.
    ///
    /// # Panics
    ///
    /// When it throws.
    pub fn value(&self, expression: &str) -> Value {
        self.try_value(expression)
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    fn try_value(&self, expression: &str) -> Result<Value, Value> {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        // A page that is left in the middle gives no value.
        let session = Some(self.session.as_str());
        let mut answer = self.browser.try_call(session, "Runtime.evaluate", &parameters)?;
        match answer.get_mut("exceptionDetails") {
            Some(exception) => Err(exception.take()),
            None => Ok(answer["result"]["value"].take()),
        }
    }

    /// Waits until an expression is true; one that throws is not, such as one about what is not there yet.
    pub fn wait(&self, what: &str, expression: &str) {
        wait_for(what, || {
            let value = self.try_value(expression).ok()?;
            (value == Value::Bool(true)).then_some(())
        });
    }

    /// The visible text of the element that a selector finds.
    pub fn text(&self, selector: &str) -> String {
        let found = self.value(&format!("document.querySelector({}).innerText", json!(selector)));
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Clicks on the element that a selector finds.
    pub fn click(&self, selector: &str) {
        self.value(&format!("document.querySelector({}).click()", json!(selector)));
    }

    /// Presses a key and lets it go.
    pub fn press(&self, key: &str) {
        for kind in ["rawKeyDown", "char", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key});
            match key {
                "Enter" => {
                    event["windowsVirtualKeyCode"] = 13.into();
                    event["text"] = "\r".into();
                }
                "Tab" => event["windowsVirtualKeyCode"] = 9.into(),
                _ => {}
            }
            if kind == "char" && event.get("text").is_none() {
                continue;
            }
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Lets media features, such as `prefers-color-scheme`, have these values.
    pub fn media(&self, features: &[(&str, &str)]) {
        let features: Vec<_> = features
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// Makes the window so large, in CSS pixels.
    pub fn size(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// What the tab shows, as a PNG.
    pub fn picture(&self) -> Vec<u8> {
        let picture = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        let text = picture["data"].as_str().expect("a picture");
        STANDARD.decode(text).expect("it is base64")
    }
}
