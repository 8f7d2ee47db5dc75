//! Linear models of rows of activations: standardised features, ridge and logistic regression, grouped folds, AUC.
//!
//! Statistics only: nothing here knows of models, prompts or tables. Activations have many more coordinates than there are
//! prompts, and a penalised solution lies in the span of the rows it is fitted to. So rows are first expressed in that span
//! ([`Features`]), which changes no inner product and hence no result, and everything after that costs as many coordinates as
//! there are rows.

mod auc;
mod cholesky;
mod features;
mod folds;
mod logistic;
mod ridge;
#[cfg(test)]
mod tests;

pub use auc::Concordance;
pub use cholesky::Cholesky;
#[cfg(test)]
use cholesky::dot;
pub use features::Features;
pub use folds::{Split, grouped_folds};
pub use logistic::{Logistic, mean_log_loss};
pub use ridge::Ridges;
