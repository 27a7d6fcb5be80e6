//! Connector actors: carry the engine's commands out over HTTP.
