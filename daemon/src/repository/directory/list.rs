//! Listings of a directory, page by page in key order.
//!
//! Names are read and sorted once per listing and kept until its last page; files are looked at only when their page comes.
//! A token is the last key or prefix of the page before, so that it holds after a restart too.

use super::tree::{Name, Tree};
use crate::repository::{ListPage, ListRequest, ObjectSummary};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Keys a page holds at most, as in S3.
const PAGE: usize = 1000;
/// Directories whose sorted names are kept between pages.
const KEPT: usize = 4;

type Names = Arc<Vec<Name>>;

/// Listings under way.
#[derive(Default)]
pub struct Listings {
    kept: Mutex<VecDeque<(String, Names)>>,
}

/// What a page is made of so far.
struct Filling<'a> {
    tree: &'a Tree,
    request: &'a ListRequest,
    after: Option<&'a str>,
    most: usize,
    page: ListPage,
    last: Option<String>,
    is_full: bool,
}

impl Listings {
    /// The page that a request asks for.
    pub fn page(&self, tree: &Tree, request: &ListRequest) -> io::Result<ListPage> {
        let after = request.token.as_deref().or(request.start_after.as_deref());
        let most = request.max_keys.map_or(PAGE, |most| (most as usize).min(PAGE));
        let mut filling = Filling { tree, request, after, most, page: ListPage::default(), last: None, is_full: false };
        let dir_key = request.prefix.rfind('/').map_or("", |slash| &request.prefix[..=slash]);
        if dir_key.contains("//") || dir_key.starts_with('/') {
            return Ok(filling.page);
        }
        let names = match self.take(dir_key).filter(|_| request.token.is_some()) {
            Some(names) => names,
            None => Arc::new(tree.names(dir_key)?),
        };
        filling.fill(dir_key, &names)?;
        if filling.is_full {
            filling.page.next = filling.last;
            self.keep(dir_key, names);
        }
        Ok(filling.page)
    }

    fn take(&self, dir_key: &str) -> Option<Names> {
        let mut kept = self.kept.lock();
        let at = kept.iter().position(|(key, _)| key == dir_key)?;
        kept.remove(at).map(|(_, names)| names)
    }

    fn keep(&self, dir_key: &str, names: Names) {
        let mut kept = self.kept.lock();
        kept.push_back((dir_key.to_owned(), names));
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }
}

impl Filling<'_> {
    fn fill(&mut self, dir_key: &str, names: &[Name]) -> io::Result<()> {
        let Ok(dir) = self.tree.open_dir(dir_key.trim_end_matches('/')) else { return Ok(()) };
        self.add_marker(&dir, dir_key)?;
        if self.is_full {
            return Ok(());
        }
        let from = names.partition_point(|name| self.is_behind(dir_key, &name.key_part));
        for name in &names[from..] {
            let key = format!("{dir_key}{}", name.key_part);
            if !(key.starts_with(&self.request.prefix) || self.request.prefix.starts_with(&key)) {
                continue;
            }
            if key.ends_with('/') && !self.request.delimited {
                self.fill(&key, &self.tree.names(&key)?)?;
            } else if self.page.objects.len() + self.page.prefixes.len() >= self.most {
                self.is_full = self.last.is_some();
            } else if key.ends_with('/') {
                self.page.prefixes.push(key.clone());
                self.last = Some(key);
            } else if let Some(summary) = self.tree.summary(&dir, dir_key, name)? {
                self.page.objects.push(summary);
                self.last = Some(key);
            }
            if self.is_full {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A directory's marker comes before everything in it.
    fn add_marker(&mut self, dir: &OwnedFd, dir_key: &str) -> io::Result<()> {
        let is_asked = !dir_key.is_empty() && dir_key.starts_with(&self.request.prefix);
        if !is_asked || self.after.is_some_and(|after| dir_key <= after) {
            return Ok(());
        }
        let Some(marker) = Tree::marker_of(dir)? else { return Ok(()) };
        if self.page.objects.len() + self.page.prefixes.len() >= self.most {
            self.is_full = self.last.is_some();
            return Ok(());
        }
        let modified_ns = marker.modified_ns.unwrap_or_default();
        self.page.objects.push(ObjectSummary { key: dir_key.to_owned(), size: 0, etag: marker.etag, modified_ns });
        self.last = Some(dir_key.to_owned());
        Ok(())
    }

    /// Whether a name, and all below it, came before this page.
    fn is_behind(&self, dir_key: &str, key_part: &str) -> bool {
        let Some(after) = self.after else { return false };
        let key = format!("{dir_key}{key_part}");
        let goes_on_inside = !self.request.delimited && key.ends_with('/') && after.starts_with(&key);
        key.as_str() <= after && !goes_on_inside
    }
}
