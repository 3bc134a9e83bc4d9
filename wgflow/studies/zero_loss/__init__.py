"""Study zero_loss: reduction, figure and requirements."""
