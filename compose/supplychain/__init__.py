"""What a commit is made of, for those who must account for it: software bills of materials and provenance."""
