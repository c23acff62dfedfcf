//! Which file names what of which other one, and where that leads in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::UseTree;
use syn::visit::{self, Visit};

use super::tree::{Crate, Names};

#[derive(Default)]
pub(super) struct Graph {
    edges: BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>,
}

impl Graph {
    pub(super) fn of(whole: &Crate) -> Self {
        let mut graph = Self::default();
        for (path, module) in &whole.modules {
            let mut paths = Paths::default();
            module.code.iter().for_each(|item| paths.visit_item(item));
            for named in paths.0.iter().chain(&module.own_imports) {
                if let Some((file, name)) = whole.resolve(path, named)
                    && file != module.file
                {
                    let from = graph.edges.entry(module.file.clone()).or_default();
                    from.entry(file.to_owned()).or_default().insert(name);
                }
            }
        }
        graph
    }

    /// Each circle in words: every arrow in it, with the names that it carries.
    pub(super) fn circles(&self) -> Vec<String> {
        let reached: BTreeMap<&Path, BTreeSet<&Path>> =
            self.edges.keys().map(|file| (&**file, self.reached_from(file))).collect();
        let both = |a: &Path, b: &Path| {
            reached.get(a).is_some_and(|from_a| from_a.contains(b))
                && reached.get(b).is_some_and(|from_b| from_b.contains(a))
        };
        let mut told = BTreeSet::new();
        let mut circles = Vec::new();
        for file in self.edges.keys().filter(|file| both(file, file)) {
            let members: Vec<&Path> =
                self.edges.keys().map(|other| &**other).filter(|other| both(file, other)).collect();
            if told.insert(members.clone()) {
                circles.push(self.describe(&members));
            }
        }
        circles
    }

    fn reached_from(&self, start: &Path) -> BTreeSet<&Path> {
        let mut reached = BTreeSet::new();
        let mut open = vec![start];
        while let Some(file) = open.pop() {
            for next in self.edges.get(file).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(&**next) {
                    open.push(next);
                }
            }
        }
        reached
    }

    fn describe(&self, members: &[&Path]) -> String {
        let mut text = format!("{} files", members.len());
        for from in members {
            for (to, names) in &self.edges[*from] {
                if members.contains(&&**to) {
                    let names: Vec<_> = names.iter().map(String::as_str).collect();
                    let (from, to) = (from.display(), to.display());
                    text.push_str(&format!("\n    {from} -> {to}: {}", names.join(", ")));
                }
            }
        }
        text
    }
}

/// Every path that an item names.
#[derive(Default)]
struct Paths(Vec<Names>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    /// What stands in a macro's call is text to the parser.
    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.visit_path(&called.path);
        self.take_tokens(called.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    /// In a function, as in a module.
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        leaves(&item.tree, &mut Names::new(), &mut self.0);
    }
}

impl Paths {
    fn take_tokens(&mut self, tokens: TokenStream) {
        let mut path = Names::new();
        // One stands between a name and its type, two in a path.
        let mut colons = 0;
        for token in tokens {
            if let TokenTree::Punct(punct) = &token
                && punct.as_char() == ':'
            {
                colons += 1;
                continue;
            }
            let is_path = std::mem::take(&mut colons) == 2;
            match token {
                TokenTree::Ident(name) => {
                    if !is_path {
                        self.take_words(&mut path);
                    }
                    path.push(name.to_string());
                }
                TokenTree::Group(group) => {
                    self.take_words(&mut path);
                    self.take_tokens(group.stream());
                }
                _ => self.take_words(&mut path),
            }
        }
        self.take_words(&mut path);
    }

    /// A single word in small letters is mostly a variable.
    fn take_words(&mut self, path: &mut Names) {
        let path = std::mem::take(path);
        let is_type = |name: &String| name.starts_with(char::is_uppercase);
        if path.len() > 1 || path.first().is_some_and(is_type) {
            self.0.push(path);
        }
    }
}

/// Every path that a `use` names.
fn leaves(tree: &UseTree, path: &mut Names, all: &mut Vec<Names>) {
    match tree {
        UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            leaves(&inner.tree, path, all);
            path.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|inner| leaves(inner, path, all)),
        UseTree::Name(name) => all.push([path.as_slice(), &[name.ident.to_string()]].concat()),
        UseTree::Rename(renamed) => {
            all.push([path.as_slice(), &[renamed.ident.to_string()]].concat());
        }
        UseTree::Glob(_) => {}
    }
}

/// The types that a macro's call defines, as `pin_project!` does.
pub(super) fn defined_in(tokens: &TokenStream) -> Vec<String> {
    let words: Vec<_> = tokens.clone().into_iter().map(|token| token.to_string()).collect();
    let pairs = words.windows(2).filter(|pair| ["struct", "enum", "trait"].contains(&&*pair[0]));
    pairs.map(|pair| pair[1].clone()).collect()
}
