"""The training room: from the corpus to a verified release, one stage a file.

prepare -> finetune -> export -> calibrate -> screen -> verify -> evaluate -> card; ``pipeline`` runs them in this
order, with an estimate and, on request, a search before finetune.
Calibration comes after the export because the shipped int8 model is what must be calibrated, not the fp32 model it
came from.
"""
