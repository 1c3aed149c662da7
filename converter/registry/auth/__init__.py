"""Who we are to a registry: credentials, challenges, tokens. Sends nothing by itself."""
