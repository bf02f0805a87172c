"""Reports: tables of evaluations, model cards. Reads records, computes nothing that is in them."""
