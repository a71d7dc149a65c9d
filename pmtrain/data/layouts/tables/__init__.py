"""Tables as people save them: text and Excel."""
