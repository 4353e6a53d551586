"""The training room: from the corpus to a verified release, one stage a file.

prepare -> finetune -> export -> calibrate -> verify -> evaluate -> card; ``pipeline`` runs them in this order.
Calibration comes after the export because the shipped int8 model is what must be calibrated, not the fp32 model it
came from.
"""
