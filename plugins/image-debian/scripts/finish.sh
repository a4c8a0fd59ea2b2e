: finish
