//! Omniglot from its zip files: handwritten characters as 28 x 28 pictures, ink 1 on 0.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use acclimate::train::data::rng::Stream;
use anyhow::{Context, Result, ensure};
use zip::ZipArchive;

/// Pixels of a row.
pub const SIDE: usize = 28;
/// Pixels of a picture.
pub const PIXELS: usize = SIDE * SIDE;
/// Pixels of a row of the files.
const FULL: usize = 105;
/// No picture of the data set takes more bytes unpacked.
const MOST_BYTES: u64 = 1 << 16;

/// A scanned drawing, 105 x 105, ink or not.
struct Drawing(Vec<bool>);

/// A small change of a drawing.
#[derive(Clone, Copy)]
struct Warp {
    /// Source offset, in pixels of the file, of a target offset from the center.
    matrix: [f32; 4],
    shift: [f32; 2],
}

impl Warp {
    const NONE: Warp = Warp { matrix: [1.0, 0.0, 0.0, 1.0], shift: [0.0, 0.0] };

    /// Turned by up to 12°, up to 12 % larger or smaller, slanted by up to .15, moved by up to 7 pixels of 105.
    fn drawn(draw: &mut Stream) -> Self {
        let mut within = |bound: f32| bound * (2.0 * draw.uniform() - 1.0);
        let (angle, size, slant) = (within(0.21), 1.0 + within(0.12), within(0.15));
        let (sin, cos) = angle.sin_cos();
        Warp {
            matrix: [size * cos, size * (slant * cos - sin), size * sin, size * (slant * sin + cos)],
            shift: [within(7.0), within(7.0)],
        }
    }
}

impl Drawing {
    fn read(bytes: &[u8]) -> Result<Self> {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info()?;
        let (width, height) = (reader.info().width, reader.info().height);
        ensure!((width, height) == (105, 105), "expected 105 x 105 pixels, found {width} x {height}");
        let size = reader.output_buffer_size().context("a picture of a known size")?;
        let mut pixels = vec![0; size];
        let info = reader.next_frame(&mut pixels)?;
        let step = info.line_size / FULL;
        ensure!(step > 0, "expected a byte or more for a pixel");
        let ink = |i: usize| pixels[i / FULL * info.line_size + i % FULL * step] < 128;
        Ok(Drawing((0..FULL * FULL).map(ink).collect()))
    }

    /// Share of ink in each of 28 x 28 fields, from 4 x 4 points of each; turned by `quarters` quarter turns.
    fn picture(&self, quarters: usize, warp: Warp) -> Vec<u8> {
        let scale = FULL as f32 / SIDE as f32;
        let middle = (FULL as f32 - 1.0) / 2.0;
        let mut picture = Vec::with_capacity(PIXELS);
        for i in 0..PIXELS {
            let mut ink = 0u16;
            for point in 0..16 {
                let offset = |of: usize| (of as f32 + 0.5) / 4.0;
                let y = ((i / SIDE) as f32 + offset(point / 4)) * scale - 0.5 - middle;
                let x = ((i % SIDE) as f32 + offset(point % 4)) * scale - 0.5 - middle;
                let (x, y) = match quarters % 4 {
                    0 => (x, y),
                    1 => (y, -x),
                    2 => (-x, -y),
                    _ => (-y, x),
                };
                let [a, b, c, d] = warp.matrix;
                let (sx, sy) = (a * x + b * y + warp.shift[0] + middle, c * x + d * y + warp.shift[1] + middle);
                let inside = |v: f32| (0.0..FULL as f32 - 0.5).contains(&v.round()).then(|| v.round() as usize);
                if let (Some(sx), Some(sy)) = (inside(sx), inside(sy)) {
                    ink += u16::from(self.0[sy * FULL + sx]);
                }
            }
            picture.push(u8::try_from(ink * 255 / 16).unwrap_or(u8::MAX));
        }
        picture
    }
}

fn unpacked(archive: &mut ZipArchive<File>, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    archive.by_name(name).with_context(|| name.to_owned())?.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn open(path: &Path) -> Result<ZipArchive<File>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    ZipArchive::new(file).with_context(|| format!("{} as a zip file", path.display()))
}

/// A character, in four orientations that count as four characters.
pub struct Character {
    pub alphabet: String,
    /// [variants][drawings] pictures; variant 0 of each drawing is as drawn.
    pub pictures: Vec<Vec<Vec<u8>>>,
}

/// The characters of the background set, each drawing as it is and in `variants` small changes.
pub fn background(path: &Path, variants: usize, draw: &mut Stream) -> Result<Vec<Character>> {
    let mut archive = open(path)?;
    let mut by_character: BTreeMap<(String, String), Vec<Drawing>> = BTreeMap::new();
    let names = archive.file_names().map(|name| Ok(name?.into_owned())).collect::<Result<Vec<String>>>()?;
    let names = names.into_iter().filter(|name| name.ends_with(".png"));
    for name in names {
        let parts: Vec<&str> = name.rsplit('/').collect();
        let [_, character, alphabet, ..] = parts[..] else { continue };
        let drawing = Drawing::read(&unpacked(&mut archive, &name)?).with_context(|| name.clone())?;
        by_character.entry((alphabet.to_owned(), character.to_owned())).or_default().push(drawing);
    }
    ensure!(!by_character.is_empty(), "{}: no pictures", path.display());
    let mut characters = Vec::new();
    for ((alphabet, _), drawings) in by_character {
        for quarters in 0..4 {
            let mut pictures = vec![drawings.iter().map(|d| d.picture(quarters, Warp::NONE)).collect::<Vec<_>>()];
            for _ in 0..variants {
                pictures.push(drawings.iter().map(|d| d.picture(quarters, Warp::drawn(draw))).collect());
            }
            // Orientations of one alphabet stay together: tasks within an alphabet are the hard ones.
            characters.push(Character { alphabet: format!("{alphabet}, {quarters} quarters"), pictures });
        }
    }
    Ok(characters)
}

/// One of the 20 one-shot runs: a drawing of each of 20 characters, and 20 drawings by others to be named.
pub struct Run {
    pub training: Vec<Vec<u8>>,
    pub test: Vec<Vec<u8>>,
    /// Position in `training` of each test drawing's character.
    pub labels: Vec<usize>,
}

/// The evaluation runs.
pub fn runs(path: &Path) -> Result<Vec<Run>> {
    let mut archive = open(path)?;
    let mut runs = Vec::new();
    for run in 1..=20 {
        let text = String::from_utf8(unpacked(&mut archive, &format!("run{run:02}/class_labels.txt"))?)?;
        let mut pairs: Vec<(&str, &str)> = text.lines().filter_map(|l| l.trim().split_once(' ')).collect();
        pairs.sort();
        let mut classes: Vec<&str> = pairs.iter().map(|p| p.1).collect();
        classes.sort();
        ensure!(classes.len() == 20, "run {run}: expected 20 pairs, found {}", classes.len());
        let mut read =
            |name: &str| Ok::<_, anyhow::Error>(Drawing::read(&unpacked(&mut archive, name)?)?.picture(0, Warp::NONE));
        runs.push(Run {
            training: classes.iter().map(|n| read(n)).collect::<Result<_>>()?,
            test: pairs.iter().map(|p| read(p.0)).collect::<Result<_>>()?,
            labels: pairs.iter().map(|p| classes.iter().position(|c| *c == p.1).unwrap_or(usize::MAX)).collect(),
        });
    }
    Ok(runs)
}
