//! The resources, conditions, reasons, labels and configuration that every part shares. No I/O.

pub mod relay;
