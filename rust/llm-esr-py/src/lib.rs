//! Python bindings of `llm-esr-core`: every function converts in, releases the GIL around the work, converts out.

mod arrays;
mod attention;
mod catalogue_rows;
mod contexts;
mod conversion;
mod loader;
mod neighbour_tables;
mod options;
mod ranks;
mod retrieval;
mod sequences;
mod store;
mod tables;
mod threads;
mod unique_items;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        super::store::register(module)?;
        super::attention::register(module)?;
        super::unique_items::register(module)?;
        super::sequences::register(module)?;
        super::loader::register(module)?;
        super::contexts::register(module)?;
        super::ranks::register(module)?;
        super::catalogue_rows::register(module)?;
        super::neighbour_tables::register(module)?;
        super::retrieval::register(module)?;
        super::tables::register(module)
    }
}
