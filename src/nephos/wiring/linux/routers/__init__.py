"""Router namespaces: ways out, translation, advertisements, election of the active host."""
