//! A headless Chromium, driven through the WebDriver protocol of its chromedriver (W3C WebDriver, and Chromium's own
//! `goog/cdp` and `se/log`).

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::rig::{Http, free_port, get, wait_for};

/// A browser with one page; closed when dropped.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    profile: PathBuf,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let port = free_port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver: {error}: make test-needs installs it"));
        let profile = std::env::temp_dir().join(format!("chromium-{}-{port}", std::process::id()));
        let mut browser = Self { driver, port, session: String::new(), profile };
        wait_for("chromedriver", || {
            get(port, "/status").ok().filter(|answer| answer.status == 200 && answer.json()["value"]["ready"] == true)
        });
        let folder = format!("--user-data-dir={}", browser.profile.display());
        let args = json!([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--window-size=1280,860",
            folder,
        ]);
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": args},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.post("", wanted);
        session["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        browser
    }

    pub(crate) fn go(&self, url: &str) {
        self.post("/url", json!({"url": url}));
    }

    /// Runs the body of a function in the page, and gives what it returns.
    pub(crate) fn script(&self, body: &str) -> Value {
        self.post("/execute/sync", json!({"script": body, "args": []}))
    }

    /// Presses keys one after the other, as WebDriver names them.
    pub(crate) fn press(&self, keys: &[char]) {
        let press = |key: &char| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        let actions: Vec<_> = keys.iter().flat_map(press).collect();
        self.post("/actions", json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}));
    }

    /// A command of the DevTools protocol.
    pub(crate) fn devtools(&self, command: &str, params: Value) -> Value {
        self.post("/goog/cdp/execute", json!({"cmd": command, "params": params}))
    }

    /// What the page's console has said, at this level, since the last time.
    pub(crate) fn console(&self, level: &str) -> Vec<Value> {
        let said = self.post("/se/log", json!({"type": "browser"}));
        said.as_array().unwrap().iter().filter(|entry| entry["level"] == level).cloned().collect()
    }

    /// The page as a PNG.
    pub(crate) fn screenshot(&self) -> Vec<u8> {
        let answer = self.send("GET", "/screenshot", b"");
        base64::engine::general_purpose::STANDARD.decode(answer.as_str().unwrap()).unwrap()
    }

    fn post(&self, path: &str, body: Value) -> Value {
        self.send("POST", path, body.to_string().as_bytes())
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> Value {
        let session = if self.session.is_empty() { String::new() } else { format!("/{}", self.session) };
        let target = format!("/session{session}{path}");
        let answer = Http::connect(self.port).unwrap().request(method, &target, &[], body).unwrap();
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium, too; killing its driver would leave it behind.
        if let Ok(mut http) = Http::connect(self.port) {
            let _ = http.request("DELETE", &format!("/session/{}", self.session), &[], b"");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
