//! A crate as its modules, and what each of them defines or imports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, Item, UseTree, Visibility};

/// The path of a module or an item: `crate::a::b` is `["a", "b"]`.
pub(super) type Names = Vec<String>;

#[derive(Default)]
pub(super) struct Module {
    pub(super) file: PathBuf,
    /// Items by name.
    items: Vec<String>,
    /// What a name stands for that came by `use`, as it was written.
    imports: BTreeMap<String, Names>,
    globs: Vec<Names>,
    /// Everything in it that names something, and what it takes for itself by `use`.
    pub(super) code: Vec<Item>,
    pub(super) own_imports: Vec<Names>,
}

#[derive(Default)]
pub(super) struct Crate {
    pub(super) modules: BTreeMap<Names, Module>,
}

impl Crate {
    pub(super) fn read(read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut whole = Self::default();
        let root = ["src/lib.rs", "src/main.rs"].map(PathBuf::from);
        let root = root.into_iter().find(|file| read(file).is_some()).expect("a root");
        whole.take_file(read, Vec::new(), root, Path::new("src"));
        whole
    }

    fn take_file(
        &mut self,
        read: &dyn Fn(&Path) -> Option<String>,
        path: Names,
        file: PathBuf,
        children: &Path,
    ) {
        let text = read(&file).expect("it was looked for");
        let parsed = syn::parse_file(&text).unwrap_or_else(|why| panic!("{file:?}: {why}"));
        self.take_items(read, path, file, children, parsed.items);
    }

    fn take_items(
        &mut self,
        read: &dyn Fn(&Path) -> Option<String>,
        path: Names,
        file: PathBuf,
        children: &Path,
        items: Vec<Item>,
    ) {
        let mut module = Module { file: file.clone(), ..Module::default() };
        for item in items {
            match item {
                Item::Mod(inner) if is_test(&inner.attrs) => {}
                Item::Mod(inner) => {
                    let name = inner.ident.to_string();
                    let mut path = path.clone();
                    path.push(name.clone());
                    let below = children.join(&name);
                    if let Some((_, items)) = inner.content {
                        self.take_items(read, path, file.clone(), &below, items);
                        continue;
                    }
                    // A file of another crate, which is read there.
                    if inner.attrs.iter().any(|attribute| attribute.path().is_ident("path")) {
                        continue;
                    }
                    let candidates = [below.with_extension("rs"), below.join("mod.rs")];
                    let found = candidates.into_iter().find(|file| read(file).is_some());
                    let found = found.unwrap_or_else(|| panic!("{file:?}: no file for {name}"));
                    self.take_file(read, path, found, &below);
                }
                Item::Use(item) if !is_test(&item.attrs) => {
                    let is_own = matches!(item.vis, Visibility::Inherited);
                    module.import(&item.tree, &mut Vec::new(), is_own);
                }
                Item::Use(_) => {}
                item => module.define(item),
            }
        }
        self.modules.insert(path, module);
    }

    /// The file that defines what a path in `module` names, and its name there.
    pub(super) fn resolve(&self, module: &Names, path: &[String]) -> Option<(&Path, String)> {
        self.follow(module, path, 0)
    }

    fn follow(&self, module: &Names, path: &[String], depth: usize) -> Option<(&Path, String)> {
        // Imports that lead in circles are the compiler's to refuse.
        if depth > 32 {
            return None;
        }
        let (first, rest) = path.split_first()?;
        match &**first {
            "crate" => return self.follow(&Vec::new(), rest, depth + 1),
            "self" => return self.follow(module, rest, depth + 1),
            "super" => {
                let (_, parent) = module.split_last()?;
                return self.follow(&parent.to_vec(), rest, depth + 1);
            }
            _ => {}
        }
        let here = self.modules.get(module)?;
        let mut child = module.clone();
        child.push(first.clone());
        if self.modules.contains_key(&child) && !rest.is_empty() {
            return self.follow(&child, rest, depth + 1);
        }
        if here.items.contains(first) {
            return Some((&here.file, first.clone()));
        }
        if let Some(import) = here.imports.get(first) {
            let whole = [import.as_slice(), rest].concat();
            return self.follow(module, &whole, depth + 1);
        }
        here.globs.iter().find_map(|glob| {
            let whole = [glob.as_slice(), path].concat();
            self.follow(module, &whole, depth + 1)
        })
    }
}

impl Module {
    fn define(&mut self, item: Item) {
        let (attributes, name) = match &item {
            Item::Const(item) => (&item.attrs, Some(&item.ident)),
            Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
            Item::Impl(item) => (&item.attrs, None),
            Item::Macro(item) => (&item.attrs, item.ident.as_ref()),
            Item::Static(item) => (&item.attrs, Some(&item.ident)),
            Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            Item::Type(item) => (&item.attrs, Some(&item.ident)),
            _ => return,
        };
        if is_test(attributes) {
            return;
        }
        self.items.extend(name.map(ToString::to_string));
        if let Item::Macro(item) = &item {
            self.items.extend(super::graph::defined_in(&item.mac.tokens));
        }
        self.code.push(item);
    }

    fn import(&mut self, tree: &UseTree, path: &mut Names, is_own: bool) {
        match tree {
            UseTree::Path(inner) => {
                path.push(inner.ident.to_string());
                self.import(&inner.tree, path, is_own);
                path.pop();
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|inner| self.import(inner, path, is_own));
            }
            UseTree::Glob(_) => self.globs.push(path.clone()),
            UseTree::Name(name) if name.ident == "self" => {
                let last = path.last().cloned().unwrap_or_default();
                self.take_import(last, path.clone(), is_own);
            }
            UseTree::Name(name) => {
                let whole = [path.as_slice(), &[name.ident.to_string()]].concat();
                self.take_import(name.ident.to_string(), whole, is_own);
            }
            UseTree::Rename(renamed) => {
                let whole = [path.as_slice(), &[renamed.ident.to_string()]].concat();
                self.take_import(renamed.rename.to_string(), whole, is_own);
            }
        }
    }

    fn take_import(&mut self, name: String, path: Names, is_own: bool) {
        if is_own {
            self.own_imports.push(path.clone());
        }
        // One that names itself is another crate's.
        if path != [name.clone()] {
            self.imports.insert(name, path);
        }
    }
}

/// Whether it is there for tests only.
fn is_test(attributes: &[Attribute]) -> bool {
    let is_cfg = |attribute: &&Attribute| attribute.path().is_ident("cfg");
    let mut conditions = attributes.iter().filter(is_cfg);
    conditions.any(|cfg| match &cfg.meta {
        syn::Meta::List(list) => needs_test(list.tokens.clone()),
        _ => false,
    })
}

/// Whether a condition holds in tests only.
fn needs_test(condition: TokenStream) -> bool {
    let mut tokens = condition.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(name) if name == "test" => return true,
            TokenTree::Ident(name) if name == "not" || name == "any" => {
                tokens.next();
            }
            TokenTree::Group(group) if needs_test(group.stream()) => return true,
            _ => {}
        }
    }
    false
}
