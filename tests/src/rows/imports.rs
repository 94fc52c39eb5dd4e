//! Finds which top-level modules of a crate each of its modules names, in code that is compiled outside tests.
//!
//! Works on tokens, so comments and strings never count and paths inside macro calls do. Follows the tree of `mod`
//! declarations from `lib.rs`, leaving out what stands under `#[cfg(test)]`, and resolves `super` to the crate root.

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One mention of a top-level module by code of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// The top-level module the code stands in; empty for the crate root.
    pub from: String,
    /// The top-level module it names.
    pub to: String,
    /// The file, relative to the crate's `src`.
    pub file: PathBuf,
}

/// What a crate's sources say.
#[derive(Debug, Default)]
pub struct Crate {
    /// Modules that the crate root declares, compiled outside tests.
    pub modules: BTreeSet<String>,
    /// Every mention of one of them by another.
    pub imports: BTreeSet<Import>,
}

/// Why sources could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A file that a `mod` declaration asks for is not there, or cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file is not Rust.
    #[error("{path}: {source}")]
    Lex {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: proc_macro2::LexError,
    },
}

/// Scans the crate whose `lib.rs` is in `src`.
pub fn scan(src: &Path) -> Result<Crate, ScanError> {
    let mut mentions = BTreeSet::new();
    let mut modules = BTreeSet::new();
    let mut pending = vec![(PathBuf::from("lib.rs"), Vec::<String>::new())];
    while let Some((file, module)) = pending.pop() {
        let path = src.join(&file);
        let text = std::fs::read_to_string(&path).map_err(|source| ScanError::Read { path: path.clone(), source })?;
        let tokens: TokenStream = text.parse().map_err(|source| ScanError::Lex { path, source })?;
        let mut scanner = Scanner { file: &file, mentions: &mut mentions, children: Vec::new() };
        scanner.stream(tokens, &module);
        for child in std::mem::take(&mut scanner.children) {
            if child.len() == 1 {
                modules.insert(child[0].clone());
            }
            pending.push((file_of(src, &child), child));
        }
    }
    let imports = mentions.into_iter().filter(|i| modules.contains(&i.to) && i.from != i.to).collect();
    Ok(Crate { modules, imports })
}

/// `a/b.rs` or `a/b/mod.rs`, whichever exists (the first when neither does, so that the error names it).
fn file_of(src: &Path, module: &[String]) -> PathBuf {
    let base: PathBuf = module.iter().collect();
    let folder = base.join("mod.rs");
    if src.join(&folder).exists() { folder } else { base.with_extension("rs") }
}

struct Scanner<'a> {
    file: &'a Path,
    mentions: &'a mut BTreeSet<Import>,
    /// Modules declared with `mod name;`, as paths from the root.
    children: Vec<Vec<String>>,
}

impl Scanner<'_> {
    /// Reads the tokens of a module (or of a group within it).
    fn stream(&mut self, tokens: TokenStream, module: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = match &tokens[at] {
                TokenTree::Punct(p) if p.as_char() == '#' && is_cfg_test(tokens.get(at + 1)) => past_item(&tokens, at + 2),
                TokenTree::Ident(word) if word == "mod" => self.declaration(&tokens, at, module),
                TokenTree::Ident(word) if word == "crate" || word == "super" => self.path(&tokens, at, module),
                TokenTree::Group(group) => {
                    self.stream(group.stream(), module);
                    at + 1
                }
                _ => at + 1,
            };
        }
    }

    /// `mod name;` or `mod name { … }`.
    fn declaration(&mut self, tokens: &[TokenTree], at: usize, module: &[String]) -> usize {
        let Some(TokenTree::Ident(name)) = tokens.get(at + 1) else { return at + 1 };
        let mut inner = module.to_vec();
        inner.push(name.to_string());
        match tokens.get(at + 2) {
            Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace => self.stream(body.stream(), &inner),
            _ => self.children.push(inner),
        }
        at + 3
    }

    /// `crate::name…`, `crate::{…}`, and `super::…` where it climbs to the root.
    fn path(&mut self, tokens: &[TokenTree], at: usize, module: &[String]) -> usize {
        let mut left = if is_ident(&tokens[at], "crate") { 0 } else { module.len().saturating_sub(1) };
        let mut next = at + 1;
        while is_path_sep(tokens, next) && tokens.get(next + 2).is_some_and(|t| is_ident(t, "super")) {
            left = left.saturating_sub(1);
            next += 3;
        }
        if left > 0 || !is_path_sep(tokens, next) {
            return next;
        }
        match tokens.get(next + 2) {
            Some(TokenTree::Ident(name)) => self.mention(name, module),
            Some(TokenTree::Group(tree)) => self.tree(tree, module),
            _ => {}
        }
        // One past the `::`, so that a group's own contents are read as well (they may hold no further root path).
        next + 2
    }

    /// The first names of a `{a::b, c, d::{e}}` tree.
    fn tree(&mut self, tree: &Group, module: &[String]) {
        let mut first = true;
        for token in tree.stream() {
            match token {
                TokenTree::Ident(name) if first => {
                    self.mention(&name, module);
                    first = false;
                }
                TokenTree::Punct(p) if p.as_char() == ',' => first = true,
                _ => {}
            }
        }
    }

    fn mention(&mut self, name: &proc_macro2::Ident, module: &[String]) {
        self.mentions.insert(Import {
            from: module.first().cloned().unwrap_or_default(),
            to: name.to_string(),
            file: self.file.to_path_buf(),
        });
    }
}

fn is_ident(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn is_path_sep(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |token: Option<&TokenTree>| match token {
        Some(TokenTree::Punct(p)) if p.as_char() == ':' => Some(p.spacing()),
        _ => None,
    };
    colon(tokens.get(at)) == Some(Spacing::Joint) && colon(tokens.get(at + 1)).is_some()
}

/// Whether an attribute's bracket is `cfg(test)`, or `cfg(all(test, …))`: both compile only into tests.
fn is_cfg_test(bracket: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(bracket)) = bracket else { return false };
    let text: String = bracket.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// Past the item that follows an attribute: its first brace group, or its `;`.
fn past_item(tokens: &[TokenTree], mut at: usize) -> usize {
    while let Some(token) = tokens.get(at) {
        at += 1;
        let ends = match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(p) => p.as_char() == ';',
            _ => false,
        };
        if ends {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crate_of(files: &[(&str, &str)]) -> Crate {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("inside the directory")).expect("create the folder");
            std::fs::write(path, text).expect("write the file");
        }
        scan(dir.path()).expect("scan")
    }

    fn arrows(found: &Crate) -> Vec<String> {
        found.imports.iter().map(|i| format!("{} -> {} ({})", i.from, i.to, i.file.display())).collect()
    }

    const ROOT: &str = "pub mod low;\npub mod high;\npub mod third;\n";

    #[test]
    fn every_form_of_path_is_seen() {
        for low in [
            "use crate::high::A;",
            "use crate::{third::{B, C}, high};",
            "mod deep { fn f() -> super::super::high::T { todo() } }",
            "fn f() { m!(crate::high::x) }",
            "use super::{high::A};",
            "pub(crate) use crate::high::*;",
        ] {
            let found = crate_of(&[("lib.rs", ROOT), ("low/mod.rs", low), ("high.rs", ""), ("third.rs", "")]);
            assert!(arrows(&found).contains(&"low -> high (low/mod.rs)".to_owned()), "{low}: {:?}", arrows(&found));
        }
    }

    #[test]
    fn comments_strings_and_tests_do_not_count() {
        let low = "//! [`crate::high::A`]\n// use crate::high;\nconst S: &str = \"crate::high\";\n#[cfg(test)]\nmod tests { use crate::high; }\n\
                   #[cfg(test)]\nmod more;\n#[cfg(test)]\nuse crate::third::X;\nuse self::high::Own;\nmod high;\n";
        let found =
            crate_of(&[("lib.rs", ROOT), ("low.rs", low), ("low/high.rs", "use super::X;"), ("high.rs", ""), ("third.rs", "")]);
        assert_eq!(arrows(&found), [""; 0]);
    }

    #[test]
    fn a_missing_module_file_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("lib.rs"), "mod gone;").expect("write the file");
        assert!(matches!(scan(dir.path()), Err(ScanError::Read { path, .. }) if path.ends_with("gone.rs")));
    }
}
