//! The page around a report, and the few functions through which every text passes.

use super::Report;

const STYLE: &str = include_str!("style.css");

/// Text made safe for element content and for quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters are not allowed in HTML, whatever way they are written.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Text as paragraphs, separated by empty lines.
pub(super) fn paragraphs(text: &str) -> String {
    let parts = text.split("\n\n").map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| format!("<p>{}</p>", escape(part))).collect()
}

/// An anchor from a heading: letters and digits in lower case, everything else a hyphen.
pub(super) fn slug(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "section".to_owned() } else { words.join("-") }
}

/// A number with so many decimals, with a real minus sign; "–" for what is no number.
pub(super) fn number(x: f64, decimals: usize) -> String {
    if !x.is_finite() {
        return "–".to_owned();
    }
    let text = format!("{x:.decimals$}");
    // What rounds to zero has no sign.
    let is_zero = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    match text.strip_prefix('-') {
        Some(rest) if is_zero => rest.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

/// The whole file. Title is plain text; the rest is HTML already.
pub(super) fn page(title: &str, lede: &str, sections: &[(String, String)], body: &str) -> String {
    let title = escape(title);
    let lede = if lede.is_empty() { String::new() } else { format!("<p class=\"lede\">{lede}</p>") };
    let links: String =
        sections.iter().map(|(heading, anchor)| format!("<li><a href=\"#{anchor}\">{heading}</a></li>")).collect();
    let contents = if sections.len() < 3 { String::new() } else { format!("<nav><ol>{links}</ol></nav>") };
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header><h1>{title}</h1>{lede}{contents}</header>\n{body}\
         <footer>Written by acclimate {version}. This page holds everything it shows and fetches nothing.</footer>\n\
         </main>\n</body>\n</html>\n"
    )
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_html())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes_escaping() {
        assert_eq!(
            escape("<a href='x' b=\"y\">&\u{0}\u{1b}"),
            "&lt;a href=&#39;x&#39; b=&quot;y&quot;&gt;&amp;\u{fffd}\u{fffd}"
        );
        assert_eq!(slug("Accuracy, by severity!"), "accuracy-by-severity");
        assert_eq!(slug("\"><script>"), "script");
        assert_eq!(slug("…"), "section");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(number(-1.25, 1), "−1.2");
        assert_eq!(number(-0.001, 1), "0.0");
        assert_eq!(number(f64::NAN, 1), "–");
        assert_eq!(number(2000.0, 0), "2000");
    }
}
