"""One module a layout; `pmtrain.data.readers` holds the table of them."""
