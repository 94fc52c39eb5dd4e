//! The page in a real browser: it is drawn, nothing leaves its place, nothing lies on anything else, and a picture of it is not blank.
//!
//! The browser is `$FOREBAY_BROWSER`, or a chromium or chrome on the PATH. Without one the test is skipped, and says so.

use super::{html, sample};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const KNOWN: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// As wide as a laptop's screen.
const WINDOW: &str = "1280,2600";

/// What is wrong with the page as it was laid out, written where a dump of the page shows it. Only the test's copy of the page has it.
const LOOK: &str = r#"<script>
const problems = [];
const inside = (a, b) => a.left >= b.left - 1 && a.right <= b.right + 1 && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
for (const svg of document.querySelectorAll('svg')) {
  const frame = svg.getBoundingClientRect();
  const things = [...svg.querySelectorAll('text, rect.bar')].map(e => ({ e, box: e.getBoundingClientRect() }));
  for (const { e, box } of things) if (!inside(box, frame)) problems.push('outside: ' + e.textContent);
  for (const [n, one] of things.entries()) for (const two of things.slice(n + 1))
    if (meet(one.box, two.box)) problems.push('on each other: ' + one.e.textContent + ' | ' + two.e.textContent);
  for (const bar of svg.querySelectorAll('rect.bar')) if (getComputedStyle(bar).fill === 'rgb(0, 0, 0)') problems.push('no colour');
}
const page = document.documentElement;
if (page.scrollWidth > page.clientWidth) problems.push('wider than the window');
document.body.dataset.looked = document.querySelectorAll('svg').length + ' drawings; ' + problems.length + ' problems: ' + problems.join(' / ');
</script>"#;

fn browser() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("FOREBAY_BROWSER") {
        return Some(given.into());
    }
    let path = std::env::var_os("PATH")?;
    KNOWN
        .iter()
        .flat_map(|name| std::env::split_paths(&path).map(move |dir| dir.join(name)))
        .find(|candidate| candidate.is_file())
}

fn run(browser: &Path, home: &Path, arguments: &[&str], page: &Path) -> String {
    let profile = format!("--user-data-dir={}", home.join("profile").display());
    let fixed = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage", &profile];
    let mut command = Command::new(browser);
    command.args(fixed).arg(format!("--window-size={WINDOW}")).args(arguments).arg(format!("file://{}", page.display()));
    let output = command.env("HOME", home).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{} does not start: {error}", browser.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_browser_draws_the_page() {
    let Some(browser) = browser() else {
        eprintln!("SKIPPED: no browser found; install chromium, or name one in FOREBAY_BROWSER");
        return;
    };
    let home = tempfile::tempdir().expect("a directory");
    for (targets, drawings) in [(1, 5), (2, 5)] {
        let text = html::of(&sample::report(targets));
        let (page, looked_at) = (home.path().join("page.html"), home.path().join("looked-at.html"));
        std::fs::write(&page, &text).expect("writes");
        std::fs::write(&looked_at, text.replace("</body>", &format!("{LOOK}</body>"))).expect("writes");

        let dom = run(&browser, home.path(), &["--dump-dom"], &looked_at);
        let found =
            dom.split("data-looked=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("the page was not looked at");
        assert_eq!(found, format!("{drawings} drawings; 0 problems: "));

        let picture = home.path().join("page.png");
        run(&browser, home.path(), &[&format!("--screenshot={}", picture.display())], &page);
        let png = std::fs::read(&picture).expect("a picture");
        assert!(png.starts_with(b"\x89PNG") && png.len() > 40_000, "{} bytes are a blank picture", png.len());
    }
}
