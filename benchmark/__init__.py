"""The benchmark: from specs to trained models, codes, scores, tables and figures."""
