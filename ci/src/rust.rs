//! Rust source as a flat list of tokens, each with its line and whether it is compiled for tests only.
//!
//! Macros are not expanded, and `#[cfg(test)]` on a single field or expression counts up to the next brace or semicolon.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// One token of a source file. Comments are none, and doc comments are string literals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// As it is written; a delimiter stands for itself.
    pub text: String,
    /// The line, from 1.
    pub line: usize,
    /// Whether it lies in an item under `#[cfg(test)]` or `#[test]`.
    pub in_test: bool,
}

/// What a source file says.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Its tokens in order.
    pub tokens: Vec<Token>,
    /// Names of modules in files of their own that are compiled for tests only.
    pub test_modules: Vec<String>,
}

impl Source {
    /// Split a source file into tokens.
    ///
    /// # Errors
    /// If the text is not Rust.
    pub fn parse(text: &str) -> Result<Self> {
        let stream: TokenStream = text.parse().map_err(|error| anyhow!("not Rust source: {error}"))?;
        let mut source = Self::default();
        source.walk(stream, false);
        Ok(source)
    }

    /// Lines where the tokens follow each other as in `pattern`, and what is found there is shipped code;
    /// with `tests_too` also in tests.
    pub fn find<'a>(&'a self, pattern: &'a [&str], tests_too: bool) -> impl Iterator<Item = usize> + 'a {
        self.tokens
            .windows(pattern.len().max(1))
            .filter(move |window| tests_too || !window[0].in_test)
            .filter(move |window| window.iter().map(|token| token.text.as_str()).eq(pattern.iter().copied()))
            .map(|window| window[0].line)
    }

    /// Whether a name occurs as an identifier.
    pub fn names(&self, name: &str) -> bool {
        self.tokens.iter().any(|token| token.text == name)
    }

    fn walk(&mut self, stream: TokenStream, all_in_test: bool) {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        let mut all_in_test = all_in_test;
        let mut item_in_test = false; // from a test attribute to the end of its item
        for (i, tree) in trees.iter().enumerate() {
            if let TokenTree::Group(group) = tree
                && group.delimiter() == Delimiter::Bracket
                && is_test_attribute(group)
            {
                match (before(&trees, i, 1), before(&trees, i, 2)) {
                    (Some('#'), _) => item_in_test = true,
                    (Some('!'), Some('#')) => all_in_test = true,
                    _ => {}
                }
            }
            let in_test = all_in_test || item_in_test;
            let line = tree.span().start().line;
            match tree {
                TokenTree::Group(group) => {
                    let (open, close) = delimiters(group.delimiter());
                    self.push(open, line, in_test);
                    self.walk(group.stream(), in_test);
                    self.push(close, group.span_close().start().line, in_test);
                    item_in_test &= group.delimiter() != Delimiter::Brace;
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => {
                    if let (true, Some(TokenTree::Ident(name)), Some(TokenTree::Ident(keyword))) = (
                        in_test,
                        i.checked_sub(1).and_then(|i| trees.get(i)),
                        i.checked_sub(2).and_then(|i| trees.get(i)),
                    ) && keyword == "mod"
                    {
                        self.test_modules.push(name.to_string());
                    }
                    self.push(";", line, in_test);
                    item_in_test = false;
                }
                other => self.push(&other.to_string(), line, in_test),
            }
        }
    }

    fn push(&mut self, text: &str, line: usize, in_test: bool) {
        if !text.is_empty() {
            self.tokens.push(Token { text: text.to_owned(), line, in_test });
        }
    }
}

/// The punctuation character `distance` trees before position `i`.
fn before(trees: &[TokenTree], i: usize, distance: usize) -> Option<char> {
    match trees.get(i.checked_sub(distance)?)? {
        TokenTree::Punct(punct) => Some(punct.as_char()),
        _ => None,
    }
}

/// Whether the inside of `#[…]` is `test`, or a `cfg` that holds in tests only.
fn is_test_attribute(attribute: &Group) -> bool {
    let mut words = Vec::new();
    identifiers(attribute.stream(), &mut words);
    let has = |word: &str| words.iter().any(|found| found == word);
    match words.first().map(String::as_str) {
        Some("test") => words.len() == 1,
        Some("cfg") => has("test") && !has("any") && !has("not"),
        _ => false,
    }
}

fn identifiers(stream: TokenStream, into: &mut Vec<String>) {
    for tree in stream {
        match tree {
            TokenTree::Ident(name) => into.push(name.to_string()),
            TokenTree::Group(group) => identifiers(group.stream(), into),
            _ => {}
        }
    }
}

fn delimiters(delimiter: Delimiter) -> (&'static str, &'static str) {
    match delimiter {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    }
}
