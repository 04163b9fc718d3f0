"""Where changes come from: the observer, the filters, settling and the reconciling walk."""
