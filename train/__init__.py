"""From a configuration to a trained, recorded result. This room knows `models/`, not studies."""
