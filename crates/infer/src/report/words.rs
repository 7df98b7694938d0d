//! Texts with the words marked that were chosen.

use std::ops::Range;

use super::html::escape;

/// The text as a paragraph with some of its bytes marked; a range that is no piece of the text, or lies before the end of
/// the one before it, is left out.
pub(super) fn marked(title: &str, text: &str, spans: &[Range<usize>]) -> String {
    let mut sorted: Vec<&Range<usize>> = spans.iter().collect();
    sorted.sort_by_key(|span| span.start);
    let (mut html, mut at) = (String::new(), 0);
    for span in sorted {
        let (Some(before), Some(word)) = (text.get(at..span.start), text.get((*span).clone())) else { continue };
        html.push_str(&format!("{}<mark>{}</mark>", escape(before), escape(word)));
        at = span.end;
    }
    html.push_str(&escape(text.get(at..).unwrap_or_default()));
    format!("<article class=\"card words\"><h3>{}</h3><p>{html}</p></article>", escape(title))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_marked_and_all_else_is_escaped() {
        let html = marked("a < b", "one <two> three", &[10..15, 0..3, 2..5, 90..99]);
        assert!(html.contains("<p><mark>one</mark> &lt;two&gt; <mark>three</mark></p>"), "{html}");
        assert!(html.contains("<h3>a &lt; b</h3>"), "{html}");
        // A range that cuts a letter in two is no piece of the text.
        let cut = 0..2;
        assert!(marked("", "né", std::slice::from_ref(&cut)).contains("<p>né</p>"));
    }
}
