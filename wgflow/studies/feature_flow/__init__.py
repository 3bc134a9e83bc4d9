"""Study feature_flow: reduction, figure and requirements."""
