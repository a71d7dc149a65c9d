"""What bench_train.py and bench_eval.py share."""
