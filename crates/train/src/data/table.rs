//! Tables of numbers from CSV files: named columns of f64.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use super::batches::split_positions;
use super::open::{DataFile, Gzip};
use super::{DataError, nearest};

/// Named columns of finite numbers, all equally long.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    path: PathBuf,
    names: Vec<String>,
    columns: Vec<Vec<f64>>,
    n_rows: usize,
}

/// What maps each column to mean 0 and standard deviation 1: x → (x − mean) / std.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// The columns, in order.
    pub names: Vec<String>,
    /// Mean of each column.
    pub mean: Vec<f64>,
    /// Population standard deviation of each column; 1 for a constant column, which becomes 0.
    pub std: Vec<f64>,
}

impl Table {
    /// The columns called `names` of a CSV file with a header line (UTF-8, plain or gzip), in the order asked for.
    /// Other columns may hold anything.
    ///
    /// # Errors
    /// [`DataError::Io`]; [`DataError::MissingColumn`], with the nearest name; [`DataError::Cell`] for a cell that is
    /// not a finite number; [`DataError::Format`] for rows of unequal length, bad UTF-8, or no row at all.
    pub fn read(path: impl AsRef<Path>, names: &[&str]) -> Result<Self, DataError> {
        let path = path.as_ref();
        let text = DataFile::open(path, Gzip::ByMagic)?.rest()?;
        let malformed = |error: csv::Error| {
            DataError::format(path, "comma-separated values with a header", error, "correct the file")
        };
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(Cursor::new(text));
        let header = reader.headers().map_err(malformed)?.clone();
        let positions = names.iter().map(|name| position(path, &header, name)).collect::<Result<Vec<_>, _>>()?;
        let mut columns = vec![Vec::new(); names.len()];
        let mut n_rows = 0;
        for record in reader.records() {
            let record = record.map_err(malformed)?;
            for ((&position, column), name) in positions.iter().zip(&mut columns).zip(names) {
                let cell = record.get(position).unwrap_or_default();
                match cell.parse::<f64>() {
                    Ok(number) if number.is_finite() => column.push(number),
                    _ => {
                        return Err(DataError::Cell {
                            path: path.to_owned(),
                            line: record.position().map_or(0, csv::Position::line),
                            column: (*name).to_owned(),
                            found: cell.to_owned(),
                        });
                    }
                }
            }
            n_rows += 1;
        }
        if n_rows == 0 {
            return Err(DataError::format(path, "at least one row below the header", "none", "check the file"));
        }
        let names = names.iter().map(ToString::to_string).collect();
        Ok(Self { path: path.to_owned(), names, columns, n_rows })
    }

    /// The texts of a column of a CSV file, as this table reads it: for each row the number of its text, and the texts in
    /// alphabetical order.
    ///
    /// # Errors
    /// Those of [`Table::read`], but any cell is a text.
    pub fn read_categories(path: impl AsRef<Path>, name: &str) -> Result<(Vec<usize>, Vec<String>), DataError> {
        let path = path.as_ref();
        let text = DataFile::open(path, Gzip::ByMagic)?.rest()?;
        let malformed = |error: csv::Error| {
            DataError::format(path, "comma-separated values with a header", error, "correct the file")
        };
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(Cursor::new(text));
        let header = reader.headers().map_err(malformed)?.clone();
        let at = position(path, &header, name)?;
        let cells = reader.records().map(|record| Ok(record?.get(at).unwrap_or_default().to_owned()));
        let cells = cells.collect::<Result<Vec<String>, csv::Error>>().map_err(malformed)?;
        let mut names = cells.clone();
        names.sort_unstable();
        names.dedup();
        Ok((cells.iter().map(|cell| names.partition_point(|name| name < cell)).collect(), names))
    }

    /// How many rows there are.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The columns' names, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The column called `name`.
    ///
    /// # Errors
    /// [`DataError::MissingColumn`], with the nearest name.
    pub fn column(&self, name: &str) -> Result<&[f64], DataError> {
        let position = self.names.iter().position(|present| present == name);
        position.map(|i| self.columns[i].as_slice()).ok_or_else(|| missing(&self.path, name, &self.names))
    }

    /// The columns called `names` as a matrix [n_rows, names], row by row.
    ///
    /// # Errors
    /// [`DataError::MissingColumn`], with the nearest name.
    pub fn matrix(&self, names: &[&str]) -> Result<Vec<f64>, DataError> {
        let columns = names.iter().map(|name| self.column(name)).collect::<Result<Vec<_>, _>>()?;
        Ok((0..self.n_rows).flat_map(|row| columns.iter().map(move |column| column[row])).collect())
    }

    /// Two tables: a share `fraction` of the rows, drawn by `seed`, and the others. Both keep file order.
    ///
    /// # Errors
    /// [`DataError::Argument`] if the fraction is not between 0 and 1.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Self, Self), DataError> {
        let (first, second) = split_positions(self.n_rows, fraction, seed)?;
        Ok((self.rows_at(&first), self.rows_at(&second)))
    }

    fn rows_at(&self, rows: &[usize]) -> Self {
        let columns = self.columns.iter().map(|column| rows.iter().map(|&row| column[row]).collect()).collect();
        Self { path: self.path.clone(), names: self.names.clone(), columns, n_rows: rows.len() }
    }

    /// Mean and standard deviation of each column. Take them from the training rows only.
    pub fn scaling(&self) -> Scaling {
        let (mean, std) = self.columns.iter().map(|column| moments(column)).unzip();
        Scaling { names: self.names.clone(), mean, std }
    }

    /// This table with every column at mean 0 and standard deviation 1, and the scaling that does it to other rows.
    pub fn standardized(&self) -> (Self, Scaling) {
        let scaling = self.scaling();
        let mut table = self.clone();
        table.scale(&scaling.mean, &scaling.std);
        (table, scaling)
    }

    fn scale(&mut self, mean: &[f64], std: &[f64]) {
        for ((column, mean), std) in self.columns.iter_mut().zip(mean).zip(std) {
            column.iter_mut().for_each(|x| *x = (*x - mean) / std);
        }
    }
}

impl Scaling {
    /// A table with the same columns, scaled.
    ///
    /// # Errors
    /// [`DataError::Argument`] if the table has other columns or another order.
    pub fn apply(&self, table: &Table) -> Result<Table, DataError> {
        if table.names != self.names {
            return Err(DataError::argument(
                "scaling",
                format!("a table with the columns {}", self.names.join(", ")),
                table.names.join(", "),
                "read both tables with the same columns",
            ));
        }
        let mut scaled = table.clone();
        scaled.scale(&self.mean, &self.std);
        Ok(scaled)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of rows")]
fn moments(column: &[f64]) -> (f64, f64) {
    let n = column.len().max(1) as f64;
    let mean = column.iter().sum::<f64>() / n;
    let std = (column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    // A constant column: the mean itself carries a rounding error of a few parts in 10^16.
    let constant = std <= 1e-12 * mean.abs();
    (mean, if constant { 1.0 } else { std })
}

fn position(path: &Path, header: &csv::StringRecord, name: &str) -> Result<usize, DataError> {
    header.iter().position(|present| present == name).ok_or_else(|| {
        let present: Vec<String> = header.iter().map(str::to_owned).collect();
        missing(path, name, &present)
    })
}

fn missing(path: &Path, name: &str, present: &[String]) -> DataError {
    DataError::MissingColumn {
        path: path.to_owned(),
        column: name.to_owned(),
        present: present.to_vec(),
        nearest: nearest(name, present.iter().map(String::as_str)),
    }
}
