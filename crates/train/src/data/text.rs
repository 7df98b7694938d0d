//! Texts: words, vocabularies, and files of labelled texts.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::DataError;
use super::open::{DataFile, Gzip};

/// The number that fills up the lists of words of a batch; no word has it.
pub const PADDING: u32 = 0;

/// Where the words of a text stand, in bytes: runs of letters, digits and apostrophes. The line break of HTML, `<br />`,
/// is no word.
pub fn words(text: &str) -> Vec<Range<usize>> {
    const BREAK: &str = "<br />";
    let (mut found, mut start, mut skip_to) = (Vec::new(), None, 0);
    for (at, c) in text.char_indices() {
        if at < skip_to {
            continue;
        }
        if c.is_alphanumeric() || c == '\'' {
            start.get_or_insert(at);
            continue;
        }
        found.extend(start.take().map(|start| start..at));
        if text.get(at..).is_some_and(|rest| rest.starts_with(BREAK)) {
            skip_to = at + BREAK.len();
        }
    }
    found.extend(start.map(|start| start..text.len()));
    found
}

/// The known words of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The number of each known word, from 1.
    pub ids: Vec<u32>,
    /// Where each stands in the text, in bytes.
    pub spans: Vec<Range<usize>>,
    /// All words of the text, known or not.
    pub n_words: usize,
}

/// Words by number, from 1; 0 is [`PADDING`].
///
/// ```
/// use acclimate_train::data::text::Vocabulary;
///
/// let vocabulary = Vocabulary::build(["A good film.", "Not a good one"], 2, 1000)?;
/// assert_eq!(vocabulary.len(), 2);
/// let encoded = vocabulary.encode("Good, good grief: a dog!");
/// assert_eq!(encoded.ids.iter().filter_map(|id| vocabulary.word(*id)).collect::<Vec<_>>(), ["good", "good", "a"]);
/// assert_eq!(encoded.n_words, 5);
/// # Ok::<(), acclimate_train::data::DataError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Vocabulary {
    words: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    /// The words (in lower case) that occur `least` times or more in the texts, at most `most` of them: the more frequent
    /// first, equally frequent ones by alphabet.
    ///
    /// # Errors
    /// [`DataError::Argument`] if no word is left.
    pub fn build<'a>(texts: impl IntoIterator<Item = &'a str>, least: usize, most: usize) -> Result<Self, DataError> {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for text in texts {
            for span in words(text) {
                *counts.entry(text[span].to_lowercase()).or_default() += 1;
            }
        }
        let mut counted: Vec<(String, usize)> = counts.into_iter().filter(|(_, n)| *n >= least.max(1)).collect();
        counted.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        counted.truncate(most.min(u32::MAX as usize - 1));
        if counted.is_empty() {
            let expected = format!("texts with words that occur {least} times or more");
            return Err(DataError::argument("vocabulary", expected, "none", "give more texts, or ask for less"));
        }
        let words: Vec<String> = counted.into_iter().map(|(word, _)| word).collect();
        let ids = words.iter().cloned().zip(1..).collect();
        Ok(Vocabulary { words, ids })
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The word of a number.
    pub fn word(&self, id: u32) -> Option<&str> {
        self.words.get(usize::try_from(id).ok()?.checked_sub(1)?).map(String::as_str)
    }

    /// The number of a word, in any case.
    pub fn id(&self, word: &str) -> Option<u32> {
        self.ids.get(word).or_else(|| self.ids.get(&word.to_lowercase())).copied()
    }

    /// The known words of a text, in order.
    pub fn encode(&self, text: &str) -> Encoded {
        let mut encoded = Encoded::default();
        for span in words(text) {
            encoded.n_words += 1;
            if let Some(id) = self.id(&text[span.clone()]) {
                encoded.ids.push(id);
                encoded.spans.push(span);
            }
        }
        encoded
    }
}

/// A text and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledText {
    /// The class.
    pub label: u32,
    /// The text.
    pub text: String,
}

/// Training and test texts of a file (plain or gzip) of lines `split <tab> label <tab> text`, where split is `train` or
/// `test`. Order is that of the file.
///
/// # Errors
/// [`DataError::Io`]; [`DataError::Format`] for a line of another form or text that is not UTF-8; [`DataError::Label`] for
/// a label that is not below `n_classes`.
pub fn read_split(path: impl AsRef<Path>, n_classes: u32) -> Result<(Vec<LabelledText>, Vec<LabelledText>), DataError> {
    let path = path.as_ref();
    let bytes = DataFile::open(path, Gzip::ByMagic)?.rest()?;
    let form = "lines `split <tab> label <tab> text` in UTF-8";
    let wrong = |found: String| DataError::format(path, form, found, "check the file");
    let text = String::from_utf8(bytes).map_err(|e| wrong(e.to_string()))?;
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let mut cells = line.splitn(3, '\t');
        let (Some(split), Some(label), Some(text)) = (cells.next(), cells.next(), cells.next()) else {
            return Err(wrong(format!("line {} with fewer than two tabs", index + 1)));
        };
        let label: u32 = label.parse().map_err(|_| wrong(format!("the label `{label}` in line {}", index + 1)))?;
        if label >= n_classes {
            return Err(DataError::Label { path: path.to_owned(), index, found: label, n_classes });
        }
        let item = LabelledText { label, text: text.to_owned() };
        match split {
            "train" => train.push(item),
            "test" => test.push(item),
            _ => return Err(wrong(format!("the split `{split}` in line {}", index + 1))),
        }
    }
    Ok((train, test))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_digits_and_apostrophes() {
        let text = "It's 2 good...<br /><br />Café < br; naïve";
        let found: Vec<&str> = words(text).into_iter().map(|span| &text[span]).collect();
        assert_eq!(found, ["It's", "2", "good", "Café", "br", "naïve"]);
        assert!(words("").is_empty() && words(" .. ").is_empty());
    }

    #[test]
    fn a_vocabulary_is_in_order_of_frequency() {
        let vocabulary = Vocabulary::build(["b b a a c", "A"], 1, 2).unwrap();
        assert_eq!((vocabulary.word(0), vocabulary.word(1), vocabulary.word(2)), (None, Some("a"), Some("b")));
        assert_eq!((vocabulary.id("A"), vocabulary.id("c"), vocabulary.word(3)), (Some(1), None, None));
        assert!(matches!(Vocabulary::build(["a b"], 2, 9), Err(DataError::Argument { .. })));
    }

    #[test]
    fn files_of_another_form_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("texts.tsv");
        let read = |text: &[u8]| {
            std::fs::write(&path, text).unwrap();
            read_split(&path, 2)
        };
        let (train, test) = read(b"train\t0\tbad\ttab\ntest\t1\tgood\n").unwrap();
        assert_eq!((train[0].text.as_str(), test[0].label), ("bad\ttab", 1));
        for (text, says) in [
            (&b"train\t0\n"[..], "line 1 with fewer than two tabs"),
            (b"train\tx\ta\n", "label `x`"),
            (b"dev\t0\ta\n", "split `dev`"),
            (b"train\t0\t\xff\n", "utf-8"),
            (b"train\t2\ta\n", "expected a class below 2, found 2"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
