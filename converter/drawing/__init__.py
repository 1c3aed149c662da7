"""What pictures and pages for people have in common: texts that are safe in XML, colours. Pure."""
