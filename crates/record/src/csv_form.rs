//! A table as CSV: one header line, comma, `\n`, floats in shortest round-trip form, null as an empty
//! field. An empty text and a null text look the same here; Parquet tells them apart.

use crate::error::{Error, Result};
use crate::table::Table;

impl Table {
    /// The table as CSV bytes; equal rows give equal bytes.
    ///
    /// # Errors
    /// [`Error::Csv`] if the library refuses.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let table = self.spec().name;
        let refused = |source| Error::Csv { table, source };
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(self.spec().columns.iter().map(|column| column.name)).map_err(refused)?;
        for row in 0..self.n_rows() {
            writer.write_record(self.columns().map(|(_, column)| column.text(row))).map_err(refused)?;
        }
        writer.into_inner().map_err(|failed| refused(failed.into_error().into()))
    }
}
