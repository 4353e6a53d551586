"""People's own coded data: any table of texts with labels becomes a corpus folder, with a report of what became of it.

tables      files of any format as rows
layouts     which columns mean what: one module a layout, recognised by its columns
names       what people call a label -> the taxonomy's label
store       rows on disk, equal texts merged
groups      what belongs together, and the splits
build       all of it: files in, corpus folder and report out
"""
