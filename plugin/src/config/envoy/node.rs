//! A place in a tree of protobuf JSON, with its path.

use serde_json::Value as Json;

/// No bootstrap nests deeper; what does is not looked at.
const MAX_DEPTH: usize = 200;

/// A value and where it is.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    value: &'a Json,
    path: String,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Json) -> Self {
        let path = String::new();
        Self { value, path }
    }

    pub(super) fn value(&self) -> &'a Json {
        self.value
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The path of `below`, a path from here.
    pub(super) fn path_to(&self, below: &str) -> String {
        let dot = if self.path.is_empty() || below.is_empty() || below.starts_with('[') {
            ""
        } else {
            "."
        };
        format!("{}{dot}{below}", self.path)
    }

    /// The field called `name` (snake case), or as protobuf JSON also spells it (`sluiceName`); null is absent.
    pub(super) fn get(&self, name: &str) -> Option<Node<'a>> {
        let camel = camel_case(name);
        [name, &camel].into_iter().find_map(|key| {
            let value = self.value.get(key).filter(|value| !value.is_null())?;
            let path = self.path_to(key);
            Some(Node { value, path })
        })
    }

    /// The field at the end of `names`.
    pub(super) fn at(&self, names: &[&str]) -> Option<Node<'a>> {
        names.iter().try_fold(self.clone(), |node, name| node.get(name))
    }

    /// The field called `name`, if it is a string.
    pub(super) fn string(&self, name: &str) -> Option<&'a str> {
        self.get(name)?.value.as_str()
    }

    /// The elements of a list; of anything else none.
    pub(super) fn items(&self) -> impl Iterator<Item = Node<'a>> + use<'a> {
        let path = self.path.clone();
        let list = self.value.as_array().into_iter().flatten();
        list.enumerate().map(move |(index, value)| Node {
            value,
            path: format!("{path}[{index}]"),
        })
    }

    /// Calls `each` with this node and all below, from the top.
    pub(super) fn visit(&self, each: &mut dyn FnMut(Node<'a>)) {
        self.visit_to(MAX_DEPTH, each);
    }

    fn visit_to(&self, depth: usize, each: &mut dyn FnMut(Node<'a>)) {
        each(self.clone());
        let Some(left) = depth.checked_sub(1) else {
            return;
        };
        self.items().for_each(|item| item.visit_to(left, each));
        for (key, value) in self.value.as_object().into_iter().flatten() {
            let path = self.path_to(key);
            Node { value, path }.visit_to(left, each);
        }
    }
}

fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut chars = part.chars();
        camel.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(chars.as_str());
    }
    camel
}
