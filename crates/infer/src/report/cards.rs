//! Cards with the pictures of one input and, below them, what each method answered.

use super::html::{escape, number};
use super::picture::Picture;
use crate::error::Error;

/// One input: its pictures side by side, and the answers below.
#[derive(Clone, Debug)]
pub struct ImageCard {
    /// What stands above: the true class, the shift.
    pub title: String,
    /// Pictures with their captions: "clean", "contrast 5", "after calibrate".
    pub pictures: Vec<(String, Picture)>,
    /// What each method answered.
    pub answers: Vec<Labelled>,
}

/// The answer of one method.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// The method's name.
    pub method: String,
    /// The name of the class it answered.
    pub class: String,
    /// The probability it gave, in [0, 1].
    pub confidence: f32,
    /// Was it right?
    pub right: bool,
}

/// The cards, as many side by side as the page is wide.
pub(super) fn grid(cards: &[ImageCard]) -> Result<String, Error> {
    let cards = cards.iter().map(card).collect::<Result<String, Error>>()?;
    Ok(format!("<div class=\"cards\">{cards}</div>"))
}

fn card(card: &ImageCard) -> Result<String, Error> {
    let mut pictures = String::new();
    for (caption, picture) in &card.pictures {
        let caption = escape(caption);
        pictures.push_str(&format!(
            "<figure><img alt=\"{caption}\" width=\"{}\" height=\"{}\" src=\"{}\"><figcaption>{caption}</figcaption></figure>",
            picture.width(),
            picture.height(),
            picture.to_data_uri()?
        ));
    }
    let answers: String = card.answers.iter().map(answer).collect();
    let title = escape(&card.title);
    Ok(format!(
        "<article class=\"card\"><h3>{title}</h3><div class=\"strip\">{pictures}</div><ul class=\"answers\">{answers}</ul></article>"
    ))
}

/// Right and wrong differ in sign and words, not in color alone.
fn answer(answer: &Labelled) -> String {
    let (class, sign, word) = if answer.right { ("right", "✓", "right") } else { ("wrong", "✗", "wrong") };
    format!(
        "<li class=\"{class}\"><span class=\"sign\" role=\"img\" aria-label=\"{word}\">{sign}</span>\
         <span class=\"who\">{}</span> <span class=\"what\">{}</span> <span class=\"sure\">{} %</span></li>",
        escape(&answer.method),
        escape(&answer.class),
        number(f64::from(answer.confidence) * 100.0, 0)
    )
}
