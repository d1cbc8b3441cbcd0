"""The desk: pages in the browser for the people who run agents. It needs the extra `desk`."""
