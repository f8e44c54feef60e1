"""The torture's programs import each other as scripts do."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
