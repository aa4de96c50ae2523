"""What a commit is made of, for those who must account for it: bills of materials and provenance."""
