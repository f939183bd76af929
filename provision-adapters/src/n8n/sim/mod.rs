//! A simulated n8n.
