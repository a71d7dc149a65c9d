"""Read data sets in several layouts, one module each; `pmtrain.data.layouts.readers` lists them."""
