"""One module a layout; `pmtrain.data.layouts.readers` holds the table of them."""
