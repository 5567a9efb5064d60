//! Reports as one page that needs nothing else: no script, no font, no other file.

pub mod axis;
pub mod chart;
mod page;
mod raw;
mod run;

pub use page::{Page, escape, facts, list, table};
pub use run::curve_chart;
